# The AIOS kernel with the plugin. AIOS and its SDK come from checkouts of yours:
#   docker build --build-context aios=../AIOS --build-context cerebrum=../Cerebrum -t aios-eccos .
# `compose.yaml` starts it beside a Redis.
FROM python:3.11-slim
RUN pip install --no-cache-dir uv
COPY --from=cerebrum . /opt/cerebrum
COPY --from=aios . /opt/aios
COPY . /opt/aios-eccos
WORKDIR /opt/aios-eccos
# A CPU build of torch: the plugin's embedder needs no more, and CUDA is several gigabytes.
RUN uv pip install --system --no-cache --extra-index-url https://download.pytorch.org/whl/cpu \
    --index-strategy unsafe-best-match -c constraints-aios.txt \
    -r /opt/aios/requirements.txt /opt/cerebrum '.[offline]'
RUN useradd --create-home kernel && chown -R kernel /opt/aios \
 && chown kernel "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
USER kernel
ENV AIOS_HOME=/opt/aios AIOS_ECCOS_STATE=/home/kernel/state
VOLUME /home/kernel/state
WORKDIR /opt/aios
EXPOSE 8000
# `enable` writes into a configuration that may be mounted, so it runs at the start; once is enough.
CMD ["sh", "-c", "aios-eccos enable && exec python -m runtime.launch"]
