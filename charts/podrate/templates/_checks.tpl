{{/* Says what of the values, each good by itself, does not go together. */}}
{{- define "podrate.check" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" (include "podrate.name" .)) -}}
{{- fail (printf "the release's name, %s, makes no name of a Service. Allowed: small letters, digits and -, a letter first. Example: podrate" .Release.Name) -}}
{{- end -}}
{{- range $key, $value := .Values.commonLabels -}}
{{- if has $key (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart") -}}
{{- fail (printf "commonLabels.%s: the chart sets this label itself. Allowed: other labels. Example: --set commonLabels.team=network" $key) -}}
{{- end -}}
{{- end -}}
{{- range $name, $keys := dict "commonLabels" .Values.commonLabels "commonAnnotations" .Values.commonAnnotations "webhook.podLabels" .Values.webhook.podLabels "webhook.podAnnotations" .Values.webhook.podAnnotations -}}
{{- range $key, $value := $keys -}}
{{- if hasPrefix "podrate.io/" $key -}}
{{- fail (printf "%s.%s: a limit for the webhook itself would have no effect, for its namespace is excluded. Allowed: keys of other prefixes" $name $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key, $value := .Values.webhook.podLabels -}}
{{- if has $key (list "app.kubernetes.io/name" "app.kubernetes.io/instance") -}}
{{- fail (printf "webhook.podLabels.%s: by this label the Service and the Deployment find the pods. Allowed: other labels" $key) -}}
{{- end -}}
{{- end -}}
{{- $budget := .Values.webhook.podDisruptionBudget -}}
{{- if and $budget.enabled (gt (int .Values.webhook.replicas) 1) (ge (int $budget.maxUnavailable) (int .Values.webhook.replicas)) -}}
{{- fail (printf "webhook.podDisruptionBudget.maxUnavailable is %d, and webhook.replicas is %d: all of them could be drained at once. Allowed: less than webhook.replicas. Example: --set webhook.podDisruptionBudget.maxUnavailable=1" (int $budget.maxUnavailable) (int .Values.webhook.replicas)) -}}
{{- end -}}
{{- if and .Values.monitoring.podMonitor (not .Values.loader.metricsPort) -}}
{{- fail "monitoring.podMonitor is true, and loader.metricsPort is 0: the loaders serve no metrics. Example: --set loader.metricsPort=9095" -}}
{{- end -}}
{{- if and .Values.monitoring.prometheusRule (not .Values.monitoring.serviceMonitor) -}}
{{- fail "monitoring.prometheusRule is true, and monitoring.serviceMonitor is false: the alerts are about what it collects. Example: --set monitoring.serviceMonitor=true" -}}
{{- end -}}
{{- if and .Values.monitoring.prometheusRule (not (regexMatch "^([0-9]{1,5}ms|[0-9]{1,2}s|1[01][0-9]s|120s|[12]m)$" .Values.monitoring.interval)) -}}
{{- fail (printf "monitoring.interval is %s, and monitoring.prometheusRule is true: the alerts look at 5 minutes, which must hold two scrapes. Allowed: up to 2m. Example: --set monitoring.interval=30s" .Values.monitoring.interval) -}}
{{- end -}}
{{- if and .Values.webhook.networkPolicy.metricsFrom (not .Values.webhook.networkPolicy.enabled) -}}
{{- fail "webhook.networkPolicy.metricsFrom is set, and webhook.networkPolicy.enabled is false: nothing would hold anybody back. Example: --set webhook.networkPolicy.enabled=true" -}}
{{- end -}}
{{- if and .Values.webhook.networkPolicy.reviewsFrom (not .Values.webhook.networkPolicy.enabled) -}}
{{- fail "webhook.networkPolicy.reviewsFrom is set, and webhook.networkPolicy.enabled is false: nothing would hold anybody back. Example: --set webhook.networkPolicy.enabled=true" -}}
{{- end -}}
{{- end -}}
