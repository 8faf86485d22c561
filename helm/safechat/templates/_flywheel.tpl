{{/* The pod of a flywheel job: (list $ "component" command resources gpus) */}}

{{- define "safechat.flywheel.pod" -}}
{{- $root := index . 0 -}}
{{- $flywheel := $root.Values.flywheel -}}
{{- $gpus := index . 4 -}}
metadata:
  labels:
    {{- include "safechat.labels" (list $root (index . 1)) | nindent 4 }}
    safechat/role: flywheel
spec:
  {{- include "safechat.pod" (list $root 10001) | nindent 2 }}
  restartPolicy: Never
  containers:
    - name: {{ index . 1 }}
      {{- include "safechat.image" (list $root $flywheel.image) | nindent 6 }}
      {{- include "safechat.container" $root | nindent 6 }}
      command:
        {{- toYaml (index . 2) | nindent 8 }}
      env:
        {{- include "safechat.env.redis" $root | nindent 8 }}
        - {name: HOME, value: /data}
        - {name: HF_HOME, value: /data/huggingface}
      resources:
        {{- if $gpus }}
        {{- include "safechat.vllm.resources" (list (index . 3) $root.Values.engine.gpuResource $gpus) | nindent 8 }}
        {{- else }}
        {{- toYaml (index . 3) | nindent 8 }}
        {{- end }}
      volumeMounts:
        - {name: data, mountPath: /data}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: tmp
      emptyDir: {}
    - name: data
      persistentVolumeClaim:
        claimName: {{ $flywheel.volume.existingClaim | default (include "safechat.component" (list $root "flywheel")) }}
  {{- if $gpus }}
  {{- include "safechat.placement" $root.Values.engine | nindent 2 }}
  {{- end }}
{{- end -}}
