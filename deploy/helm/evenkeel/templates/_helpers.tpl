{{- define "evenkeel.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "evenkeel" .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-evenkeel" (.Release.Name | trunc 54 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "evenkeel.selector" -}}
app.kubernetes.io/name: evenkeel
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "evenkeel.labels" -}}
{{ include "evenkeel.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "evenkeel.secret" -}}
{{- .Values.secret.existing | default (include "evenkeel.fullname" .) -}}
{{- end -}}

{{/* "https" where config.http.tls is set, else nothing. */}}
{{- define "evenkeel.secure" -}}
{{- if dig "http" "tls" "" .Values.config -}}https{{- end -}}
{{- end -}}

{{/* The name of the Lease; empty where none is configured. */}}
{{- define "evenkeel.lease" -}}
{{- dig "lease" "kubernetes" "name" "" .Values.config -}}
{{- end -}}

{{- define "evenkeel.leaseNamespace" -}}
{{- dig "lease" "kubernetes" "namespace" .Release.Namespace .Values.config -}}
{{- end -}}

{{/* The text of evenkeel.toml. */}}
{{- define "evenkeel.config" -}}
{{- $own := dict "state" (dict "dir" "/var/lib/evenkeel") "http" (dict "token_file" "/run/secrets/evenkeel/token") -}}
{{- include "evenkeel.table" (dict "table" (mergeOverwrite (deepCopy .Values.config) $own) "path" "") | trim -}}
{{- end -}}

{{/*
A table of TOML: its keys, then the tables and the lists of tables in it. All other values are written as in JSON, which TOML
reads alike. Not by `toToml`: that writes 8 as 8.0, which is no whole number to evenkeel.
*/}}
{{- define "evenkeel.table" -}}
{{- $path := .path -}}
{{- range $key, $value := .table -}}
{{- if not (or (kindIs "map" $value) (and (kindIs "slice" $value) $value (kindIs "map" (first $value)))) }}
{{ include "evenkeel.key" $key }} = {{ toJson $value }}
{{- end -}}
{{- end -}}
{{- range $key, $value := .table -}}
{{- $path := printf "%s%s" $path (include "evenkeel.key" $key) -}}
{{- $inner := printf "%s." $path -}}
{{- if kindIs "map" $value }}

[{{ $path }}]
{{- include "evenkeel.table" (dict "table" $value "path" $inner) -}}
{{- else if and (kindIs "slice" $value) $value (kindIs "map" (first $value)) -}}
{{- range $value }}

[[{{ $path }}]]
{{- include "evenkeel.table" (dict "table" . "path" $inner) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "evenkeel.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end -}}
