{{/* The engine: values under the preset's, and the pod that a StatefulSet or a LeaderWorkerSet makes. */}}

{{- define "safechat.compact" -}}
{{- $out := dict -}}
{{- range $key, $value := . -}}
{{- if kindIs "map" $value -}}
{{- $_ := set $out $key (include "safechat.compact" $value | fromYaml) -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $_ := set $out $key $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $out -}}
{{- end -}}

{{- define "safechat.engine" -}}
{{- $preset := $.Files.Get "files/presets/none.yaml" | fromYaml -}}
{{- with .Values.preset -}}
{{- $preset = mergeOverwrite $preset ($.Files.Get (printf "files/presets/%s.yaml" .) | fromYaml) -}}
{{- end -}}
{{- $engine := mergeOverwrite $preset (include "safechat.compact" .Values.engine | fromYaml) -}}
{{- $split := mul $engine.tensorParallelSize $engine.pipelineParallelSize -}}
{{- if not (hasKey $engine "gpusPerPod") -}}
{{- $_ := set $engine "gpusPerPod" (div (add $split (sub $engine.nodes 1)) $engine.nodes) -}}
{{- end -}}
{{- toYaml $engine -}}
{{- end -}}

{{- define "safechat.engine.served" -}}
{{- $engine := include "safechat.engine" . | fromYaml -}}
{{- $engine.servedName | default $engine.model -}}
{{- end -}}

{{- define "safechat.engine.pod" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- $engine := include "safechat.engine" $root | fromYaml -}}
{{- include "safechat.pod" (list $root 10001) }}
{{- with $engine.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
terminationGracePeriodSeconds: 60
containers:
  - name: vllm
    {{- include "safechat.image" (list $root $engine.image) | nindent 4 }}
    {{- include "safechat.container" $root | nindent 4 }}
    args:
      - --model={{ $engine.model }}
      - --served-name={{ include "safechat.engine.served" $root }}
      - --host=0.0.0.0
      - --port=8000
      - --tensor-parallel-size={{ $engine.tensorParallelSize }}
      {{- if $engine.maxModelLen }}
      - --max-model-len={{ int $engine.maxModelLen }}
      {{- end }}
      - --
      - --pipeline-parallel-size={{ $engine.pipelineParallelSize }}
      {{- if gt (int $engine.nodes) 1 }}
      - --distributed-executor-backend=mp
      - --nnodes={{ $engine.nodes }}
      - --master-addr=$(LWS_LEADER_ADDRESS)
      {{- if eq $role "leader" }}
      - --node-rank=0
      {{- else }}
      - --node-rank=$(LWS_WORKER_INDEX)
      - --headless
      {{- end }}
      {{- end }}
      {{- range $engine.args }}
      - {{ . | quote }}
      {{- end }}
    env:
      {{- include "safechat.engine.env" $root | nindent 6 }}
      {{- with $engine.env }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- if ne $role "worker" }}
    {{- include "safechat.vllm.probes" $engine.loadingMinutes | nindent 4 }}
    {{- end }}
    resources:
      {{- include "safechat.vllm.resources" (list $engine.resources $engine.gpuResource $engine.gpusPerPod) | nindent 6 }}
    {{- include "safechat.vllm.mounts" $root | nindent 4 }}
volumes:
  {{- include "safechat.vllm.volumes" $engine.sharedMemory | nindent 2 }}
  {{- with $engine.cache.existingClaim }}
  - name: cache
    persistentVolumeClaim:
      claimName: {{ . }}
  {{- end }}
{{- include "safechat.placement" $engine }}
{{- end -}}

{{- define "safechat.engine.env" -}}
{{- include "safechat.vllm.env" . }}
{{- with .Values.engine.hfToken }}
{{- if .secret }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end }}
{{- end }}
{{- end -}}
