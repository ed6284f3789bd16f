# TF Serving with one model of saved_models/ in it, all of whose versions are checked before:
#   docker build -f docker/server.Dockerfile --build-arg MODEL=mnist -t mnist-server .
ARG CLI=tfp-smvi:local

# hadolint ignore=DL3006
FROM ${CLI} AS check
ARG MODEL=mnist
WORKDIR /work
RUN mkdir saved_models
COPY --chown=1000:1000 saved_models/${MODEL} saved_models/${MODEL}
RUN for version in "saved_models/${MODEL}"/*/; do \
        tfp-smvi export --check "${version}" || exit 1; \
    done
# Only writes saved_models/_server, as for compose.yaml; the program `docker` is not called.
RUN mkdir /tmp/bin && ln -s /bin/false /tmp/bin/docker \
    && PATH=/tmp/bin:$PATH tfp-smvi serve --docker --dry-run --model-name "${MODEL}"

FROM tensorflow/serving:2.21.0
COPY --from=check --chmod=755 /work/saved_models /models
USER 1000:1000
EXPOSE 8500 8501
# The image has no curl. The server opens its REST port when the model is loaded.
HEALTHCHECK --interval=5s --timeout=3s --retries=60 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8501"]
# As process 1 the server would ignore signals: docker run --init.
ENTRYPOINT ["tensorflow_model_server"]
CMD ["--port=8500", \
     "--rest_api_port=8501", \
     "--model_config_file=/models/_server/models.config", \
     "--model_config_file_poll_wait_seconds=10", \
     "--allow_version_labels_for_unavailable_models=true", \
     "--enable_batching=true", \
     "--batching_parameters_file=/models/_server/batching.config", \
     "--monitoring_config_file=/models/_server/monitoring.config"]
