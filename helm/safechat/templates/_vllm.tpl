{{/* What every vLLM pod needs, the engine's and the reward models'. */}}

{{/* All caches on the volume. USER: torch asks for a name, and our uid has none. */}}
{{- define "safechat.vllm.env" -}}
- {name: HOME, value: /cache}
- {name: USER, value: safechat}
- {name: HF_HOME, value: /cache/huggingface}
- {name: XDG_CACHE_HOME, value: /cache}
- {name: VLLM_CACHE_ROOT, value: /cache/vllm}
- {name: TRITON_CACHE_DIR, value: /cache/triton}
{{- end -}}

{{/* Takes the minutes that loading may take. */}}
{{- define "safechat.vllm.probes" -}}
ports:
  - {name: http, containerPort: 8000}
startupProbe:
  httpGet: {path: /health, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: {{ mul . 6 }}
readinessProbe:
  httpGet: {path: /health, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
livenessProbe:
  httpGet: {path: /health, port: http}
  periodSeconds: 15
  timeoutSeconds: 10
  failureThreshold: 6
{{- end -}}

{{/* (list resources gpuResource gpus) */}}
{{- define "safechat.vllm.resources" -}}
{{- $gpus := dict (index . 1) (index . 2 | int) -}}
{{- $resources := index . 0 -}}
requests:
  {{- merge $gpus ($resources.requests | default dict) | toYaml | nindent 2 }}
limits:
  {{- merge (dict (index . 1) (index . 2 | int)) ($resources.limits | default dict) | toYaml | nindent 2 }}
{{- end -}}

{{- define "safechat.vllm.mounts" -}}
volumeMounts:
  - {name: cache, mountPath: /cache}
  - {name: tmp, mountPath: /tmp}
  - {name: shared-memory, mountPath: /dev/shm}
{{- end -}}

{{/* Takes the size of the shared memory. */}}
{{- define "safechat.vllm.volumes" -}}
- name: tmp
  emptyDir: {}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ . }}
{{- end -}}
