{{/* Values that fit the schema and yet cannot work together: said at `helm template`, with the reason. */}}

{{- define "safechat.checks" -}}
{{- include "safechat.checks.engine" . -}}
{{- include "safechat.checks.redis" . -}}
{{- include "safechat.checks.rewards" . -}}
{{- include "safechat.checks.settings" . -}}
{{- end -}}

{{- define "safechat.checks.engine" -}}
{{- $engine := include "safechat.engine" . | fromYaml -}}
{{- if not $engine.enabled -}}
{{- if not $engine.url -}}
{{- fail "engine.enabled is false, so engine.url must name an engine that runs elsewhere" -}}
{{- end -}}
{{- else -}}
{{- $tp := int $engine.tensorParallelSize -}}
{{- $pp := int $engine.pipelineParallelSize -}}
{{- $gpus := int $engine.gpusPerPod -}}
{{- $nodes := int $engine.nodes -}}
{{- $heads := int $engine.attentionHeads -}}
{{- if not $engine.model -}}
{{- fail "no model: choose a preset (7b, 13b, 70b), or name one in engine.model" -}}
{{- end -}}
{{- if $engine.url -}}
{{- fail "engine.url names an engine that runs elsewhere, so engine.enabled must be false" -}}
{{- end -}}
{{- if and (gt $tp 1) (not $heads) -}}
{{- fail (printf "engine.tensorParallelSize is %d: set engine.attentionHeads too (num_attention_heads in the model's config.json), which it must divide" $tp) -}}
{{- end -}}
{{- if and $heads (mod $heads $tp) -}}
{{- fail (printf "engine.tensorParallelSize %d does not divide the model's %d attention heads" $tp $heads) -}}
{{- end -}}
{{- if gt $tp $gpus -}}
{{- fail (printf "engine.tensorParallelSize %d exceeds the %d GPUs of a pod (engine.gpusPerPod): split layers over nodes by engine.pipelineParallelSize instead" $tp $gpus) -}}
{{- end -}}
{{- if gt (mul $tp $pp) (mul $gpus $nodes) -}}
{{- fail (printf "engine.tensorParallelSize %d times engine.pipelineParallelSize %d exceeds the %d GPUs (engine.gpusPerPod %d times engine.nodes %d)" $tp $pp (mul $gpus $nodes) $gpus $nodes) -}}
{{- end -}}
{{- if and (gt $nodes 1) (lt (mul $tp $pp) (mul $gpus $nodes)) -}}
{{- fail (printf "over several nodes all GPUs must be used: engine.tensorParallelSize %d times engine.pipelineParallelSize %d is less than engine.gpusPerPod %d times engine.nodes %d" $tp $pp $gpus $nodes) -}}
{{- end -}}
{{- if and (gt $nodes 1) (not $engine.cache.existingClaim) -}}
{{- fail "engine.nodes is more than 1, so its pods need one cache volume: name a ReadWriteMany claim in engine.cache.existingClaim" -}}
{{- end -}}
{{- if and (gt (int $engine.replicas) 1) (not (include "safechat.router.enabled" .)) -}}
{{- fail (printf "engine.replicas is %d, so router.enabled must not be false: the gateway speaks to one address" (int $engine.replicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "safechat.checks.redis" -}}
{{- $gateway := .Values.gateway -}}
{{- $scaling := $gateway.autoscaling -}}
{{- if and .Values.redis.bundled.enabled .Values.redis.external.urlSecret -}}
{{- fail "redis.bundled.enabled and redis.external.urlSecret exclude each other: choose one Redis" -}}
{{- end -}}
{{- if not (include "safechat.redis.enabled" .) -}}
{{- if or $scaling.enabled (gt (int $gateway.replicas) 1) -}}
{{- fail "several gateways need one Redis for limits, instructions and the journal: set redis.bundled.enabled or redis.external.urlSecret, or gateway.replicas to 1 without autoscaling" -}}
{{- end -}}
{{- if or .Values.flywheel.export.enabled .Values.flywheel.evaluation.enabled .Values.flywheel.training.enabled -}}
{{- fail "the flywheel reads the journal in Redis: set redis.bundled.enabled or redis.external.urlSecret" -}}
{{- end -}}
{{- end -}}
{{- if and $scaling.enabled (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- fail (printf "gateway.autoscaling.minReplicas %d exceeds maxReplicas %d" (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- if and .Values.flywheel.training.enabled (not .Values.flywheel.training.command) -}}
{{- fail "flywheel.training.enabled needs flywheel.training.command" -}}
{{- end -}}
{{- end -}}

{{- define "safechat.checks.rewards" -}}
{{- range $axis := list "safety" "helpfulness" -}}
{{- with index $.Values.rewardModels $axis -}}
{{- if and .enabled (not (and .model .spec)) -}}
{{- fail (printf "rewardModels.%s.enabled needs both model and spec: docs/reward-models.md lists them" $axis) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "safechat.checks.settings" -}}
{{- $settings := .Values.gateway.settings -}}
{{- $by := dict "keys" "apiKeys" "redis_url" "redis" "server.host" "gateway.service" "server.port" "gateway.service" "server.log_json" "nothing: pods log JSON" "server.drain_s" "gateway.drain.longestStreamSeconds" "journal.folder" "gateway.journal" -}}
{{- range $name, $value := $by -}}
{{- $steps := splitList "." $name -}}
{{- $section := $settings -}}
{{- if gt (len $steps) 1 -}}
{{- $section = index $settings (first $steps) | default dict -}}
{{- end -}}
{{- if hasKey $section (last $steps) -}}
{{- fail (printf "gateway.settings.%s is set by the chart: use %s" $name $value) -}}
{{- end -}}
{{- end -}}
{{- if hasKey $settings "engine" -}}
{{- range $name := list "url" "health_path" "model" "served_name" "tensor_parallel_size" "max_model_len" "chat_template" "vllm_args" -}}
{{- if hasKey $settings.engine $name -}}
{{- fail (printf "gateway.settings.engine.%s is set by the chart: use engine" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- include "safechat.checks.secrets" (list "gateway.settings" $settings) -}}
{{- end -}}

{{/* (list path tree): secrets come from Secrets alone. */}}
{{- define "safechat.checks.secrets" -}}
{{- $path := index . 0 -}}
{{- range $name, $value := index . 1 -}}
{{- $here := printf "%s.%s" $path $name -}}
{{- if has $name (list "api_key" "headers") -}}
{{- fail (printf "%s is a secret: give it by gateway.env with a secretKeyRef, as SAFECHAT_…__%s" $here (upper $name)) -}}
{{- end -}}
{{- if kindIs "map" $value -}}
{{- include "safechat.checks.secrets" (list $here $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
