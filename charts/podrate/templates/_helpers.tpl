{{/* The name of everything: the release's where it says podrate already. Room for "-cert" within 63 characters. */}}
{{- define "podrate.name" -}}
{{- $name := ternary .Release.Name (printf "%s-podrate" .Release.Name) (contains "podrate" .Release.Name) -}}
{{- $name | trunc 58 | trimSuffix "-" -}}
{{- end -}}

{{/* The namespaces in which labels have no effect, as JSON. */}}
{{- define "podrate.excluded" -}}
{{- concat (list "kube-system" "kube-node-lease" .Release.Namespace) .Values.excludedNamespaces | uniq | toJson -}}
{{- end -}}

{{/* "true" where `test.namespace` is one of them; else nothing. */}}
{{- define "podrate.testIsExcluded" -}}
{{- if has .Values.test.namespace (include "podrate.excluded" . | fromJsonArray) }}true{{ end -}}
{{- end -}}

{{- define "podrate.selector" -}}
app.kubernetes.io/name: podrate
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "podrate.labels" -}}
{{ include "podrate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The labels and annotations of an object: (dict "root" $), perhaps with its own "labels" and "annotations". */}}
{{- define "podrate.metadata" -}}
labels: {{- merge (dict) (.labels | default dict) (include "podrate.labels" .root | fromYaml) | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The reference of an image: (list $ .Values.webhook.image). A digest names the bytes, so a tag adds nothing to it. */}}
{{- define "podrate.image" -}}
{{- $root := index . 0 -}}
{{- with index . 1 -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $root.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Resources as an option of the webhook: cpu=1m,memory=16Mi. Numbers as in JSON, for %v makes 1e+07 of large ones. */}}
{{- define "podrate.quantities" -}}
{{- $pairs := list -}}
{{- range $resource, $quantity := . -}}
{{- $pairs = append $pairs (printf "%s=%s" $resource (ternary $quantity (toJson $quantity) (kindIs "string" $quantity))) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end -}}
