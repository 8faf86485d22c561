{{/* Pieces of network policies. */}}

{{/* (list $ "component"): a policy of that component's own, its head. */}}
{{- define "safechat.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "safechat.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "safechat.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
{{- end -}}

{{/* (list $ "component"): the pods of that component, as a peer. */}}
{{- define "safechat.peer" -}}
podSelector:
  matchLabels:
    {{- include "safechat.selector" . | nindent 4 }}
{{- end -}}

{{- define "safechat.egress.dns" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{/* The world outside of the cluster and of its private networks. */}}
{{- define "safechat.egress.downloads" -}}
- to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 169.254.0.0/16, 100.64.0.0/10]
  ports:
    - port: 443
{{- end -}}

{{- define "safechat.egress.redis" -}}
{{- if .Values.redis.bundled.enabled }}
- to:
    - {{- include "safechat.peer" (list . "redis") | nindent 6 }}
  ports:
    - port: 6379
{{- else if .Values.redis.external.urlSecret }}
- ports:
    - port: {{ .Values.redis.external.port }}
{{- end }}
{{- end -}}
