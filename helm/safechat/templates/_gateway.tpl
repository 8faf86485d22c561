{{/* What the gateway is told: where its engine, its judges and its Redis are. */}}

{{- define "safechat.router.enabled" -}}
{{- $engine := .Values.engine -}}
{{- $wanted := .Values.router.enabled -}}
{{- if and $engine.enabled (ternary (gt (int $engine.replicas) 1) $wanted (kindIs "invalid" $wanted)) -}}
true
{{- end -}}
{{- end -}}

{{- define "safechat.redis.enabled" -}}
{{- if or .Values.redis.bundled.enabled .Values.redis.external.urlSecret -}}true{{- end -}}
{{- end -}}

{{- define "safechat.engine.url" -}}
{{- if not .Values.engine.enabled -}}
{{- .Values.engine.url -}}
{{- else -}}
{{- $component := ternary "router" "engine" (eq (include "safechat.router.enabled" .) "true") -}}
http://{{ include "safechat.component" (list . $component) }}:8000
{{- end -}}
{{- end -}}

{{/* The settings file, as TOML. */}}
{{- define "safechat.settings" -}}
{{- $server := dict "host" "0.0.0.0" "port" 8000 "log_json" true "drain_s" .Values.gateway.drain.longestStreamSeconds -}}
{{- $engine := dict "url" (include "safechat.engine.url" .) -}}
{{- if include "safechat.router.enabled" . -}}
{{- $_ := set $engine "health_path" "/readiness" -}}
{{- end -}}
{{- $guard := dict -}}
{{- range $axis := list "safety" "helpfulness" -}}
{{- with index $.Values.rewardModels $axis -}}
{{- if .enabled -}}
{{- $url := printf "http://%s:8000" (include "safechat.component" (list $ (printf "reward-%s" $axis))) -}}
{{- $_ := set $guard $axis (dict "url" $url "spec" .spec) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $ours := dict "server" $server "engine" $engine "guard" $guard "journal" (dict "folder" "/var/lib/safechat") -}}
{{- mergeOverwrite (deepCopy .Values.gateway.settings) $ours | toToml -}}
{{- end -}}

{{/* Environment of everything that reads or writes the journal. */}}
{{- define "safechat.env.redis" -}}
{{- with .Values.redis.bundled }}
{{- if .enabled }}
{{- $host := include "safechat.component" (list $ "redis") }}
{{- if .password.secret }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .password.secret }}
      key: {{ .password.key }}
{{- end }}
- name: SAFECHAT_REDIS_URL
  value: redis://{{ if .password.secret }}:$(REDIS_PASSWORD)@{{ end }}{{ $host }}:6379/0
{{- end }}
{{- end }}
{{- with .Values.redis.external }}
{{- if .urlSecret }}
- name: SAFECHAT_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ .urlSecret }}
      key: {{ .key }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "safechat.env.keys" -}}
- name: SAFECHAT_KEYS
  valueFrom:
    secretKeyRef:
      name: {{ .Values.apiKeys.secret }}
      key: {{ .Values.apiKeys.hashes }}
{{- end -}}
