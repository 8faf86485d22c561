{{/* Names and labels. Those with a component take (list $ "component"). */}}

{{- define "safechat.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "safechat.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "safechat.component" -}}
{{- printf "%s-%s" (include "safechat.fullname" (index . 0)) (index . 1) -}}
{{- end -}}

{{- define "safechat.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "safechat.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "safechat.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{ include "safechat.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: safechat
{{- end -}}

{{- define "safechat.metadata" -}}
name: {{ include "safechat.component" . }}
labels:
  {{- include "safechat.labels" . | nindent 2 }}
{{- end -}}

{{/* (list $ .Values.x.image) */}}
{{- define "safechat.image" -}}
{{- $image := index . 1 -}}
image: {{ printf "%s:%s" $image.repository ($image.tag | default (index . 0).Chart.AppVersion) | quote }}
imagePullPolicy: {{ $image.pullPolicy }}
{{- end -}}
