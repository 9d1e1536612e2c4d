"""A kopf operator for Gardens: keeps a ConfigMap for each, waters it by a timer, and digs it up before it goes."""

import logging

import kopf
from kubernetes import client, config

config.load_kube_config()
core = client.CoreV1Api()


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_):
    settings.posting.loggers, settings.posting.level = True, logging.INFO
    settings.persistence.finalizer = "clients.example.com/gardener"
    # What is remembered stands in annotations alone, so that the status is the handlers' own.
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="clients.example.com")


def planted(spec):
    return {"flowers": ",".join(spec.get("flowers", []))}


@kopf.on.create("clients.example.com", "v1", "gardens")
def create(spec, name, namespace, retry, patch, body, logger, **_):
    if spec.get("frost") and retry == 0:
        raise kopf.TemporaryError("the ground is frozen", delay=0.2)
    bed = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-bed"}, "data": planted(spec)}
    kopf.adopt(bed)
    core.create_namespaced_config_map(namespace, bed)
    kopf.warn(body, reason="Sown", message="birds may come")
    patch.status["phase"] = "Planted"
    logger.info("planted")


@kopf.on.update("clients.example.com", "v1", "gardens", field="spec.flowers")
def update(spec, name, namespace, old, new, patch, **_):
    core.patch_namespaced_config_map(f"{name}-bed", namespace, {"data": planted(spec)})
    patch.status["was"] = old
    patch.status["phase"] = "Replanted"


@kopf.on.delete("clients.example.com", "v1", "gardens")
def delete(name, namespace, **_):
    core.create_namespaced_config_map(namespace, {"metadata": {"name": f"{name}-dug-up"}})


@kopf.timer("clients.example.com", "v1", "gardens", interval=0.3, when=lambda spec, **_: spec.get("thirsty", False))
def water(status, patch, **_):
    patch.status["watered"] = status.get("watered", 0) + 1


@kopf.on.event("", "v1", "configmaps", labels={"weather": "rain"})
def rain(event, name, logger, **_):
    logger.info(f"rain: {event['type']} {name}")
