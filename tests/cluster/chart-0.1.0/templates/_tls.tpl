{{/* The Secret with the certificate. */}}
{{- define "podrate.secret" -}}
{{- $tls := .Values.webhook.tls -}}
{{- if eq $tls.mode "provided" -}}
{{- $tls.provided.secretName -}}
{{- else -}}
{{- /* Two names: when the mode changes, helm deletes the one after cert-manager made the other. */ -}}
{{ include "podrate.name" . }}-{{ ternary "tls" "cert" (eq $tls.mode "self") }}
{{- end -}}
{{- end -}}

{{/* Whether the webhook writes the caBundles of its configuration: unless somebody else does. */}}
{{- define "podrate.publishes" -}}
{{- $tls := .Values.webhook.tls -}}
{{- if or (eq $tls.mode "self") (and (eq $tls.mode "provided") (not $tls.provided.caBundle)) }}true{{ end -}}
{{- end -}}

{{/* Says what of webhook.tls does not go together. */}}
{{- define "podrate.checkTls" -}}
{{- $tls := .Values.webhook.tls -}}
{{- $issuer := $tls.certManager.issuerRef.name -}}
{{- $secret := $tls.provided.secretName -}}
{{- $bundle := $tls.provided.caBundle -}}
{{- if eq $tls.mode "certManager" -}}
{{- if not $issuer -}}
{{- fail "webhook.tls.mode is certManager, and webhook.tls.certManager.issuerRef.name is empty: name an Issuer that signs for cluster-internal names. Example: --set webhook.tls.certManager.issuerRef.name=internal-ca" -}}
{{- end -}}
{{- else if $issuer -}}
{{- fail (printf "webhook.tls.certManager.issuerRef.name is %q, and webhook.tls.mode is %s: an issuer is for --set webhook.tls.mode=certManager" $issuer $tls.mode) -}}
{{- end -}}
{{- if eq $tls.mode "provided" -}}
{{- if not $secret -}}
{{- fail "webhook.tls.mode is provided, and webhook.tls.provided.secretName is empty: name a Secret with tls.crt and tls.key in the release's namespace. Example: --set webhook.tls.provided.secretName=podrate-certificate" -}}
{{- end -}}
{{- if and $bundle (or (not (contains "-----BEGIN CERTIFICATE-----" $bundle)) (contains "PRIVATE KEY" $bundle)) -}}
{{- fail "webhook.tls.provided.caBundle is not the PEM of certificates alone: no base64 of it, no key. Example: --set-file webhook.tls.provided.caBundle=ca.crt" -}}
{{- end -}}
{{- else if or $secret $bundle -}}
{{- fail (printf "webhook.tls.provided.%s is set, and webhook.tls.mode is %s: a certificate of your own is for --set webhook.tls.mode=provided" (ternary "secretName" "caBundle" (not (empty $secret))) $tls.mode) -}}
{{- end -}}
{{- end -}}
