# vllm-router, the load balancer of the vLLM project, before several engines.
#   docker build -f images/router.Dockerfile -t safechat/router:0.1.0 .
FROM python:3.11.14-slim-bookworm
COPY requirements/cpu.lock /tmp/cpu.lock
RUN pip install --no-cache-dir --constraint /tmp/cpu.lock vllm-router==0.1.17
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=1h \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/liveness', timeout=4)"]
ENTRYPOINT ["vllm-router"]
