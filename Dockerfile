# syntax=docker/dockerfile:1
# A server for one exported model, without torch: docker build -t my-server . ; see docs/serve.md.
FROM python:3.13-slim AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE NOTICE constraints.txt ./
COPY src src
# What runs the export: of --to onnx these; for one of --to openvino: docker build --build-arg ENGINE=openvino
ARG ENGINE="onnx onnxruntime"
# greffon itself without what training needs, and then what the server imports.
RUN python -m venv /opt/greffon \
 && /opt/greffon/bin/pip install --no-cache-dir -c constraints.txt \
      $ENGINE fastapi numpy pillow prometheus-client python-multipart rich safetensors typer uvicorn \
 && /opt/greffon/bin/pip install --no-cache-dir --no-deps .

FROM python:3.13-slim
COPY --from=build /opt/greffon /opt/greffon
RUN useradd --system --no-create-home --uid 10001 greffon
USER 10001
ENV GREFFON_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["/opt/greffon/bin/python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["/opt/greffon/bin/greffon", "serve"]
# The model is mounted at /model. Inside a container, loopback is out of everybody's reach.
CMD ["/model", "--host", "0.0.0.0", "--port", "8000"]
