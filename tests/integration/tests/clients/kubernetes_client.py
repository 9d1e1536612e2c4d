"""Users of the Python client: each function is a scenario, run by name against the cluster of KUBECONFIG."""

import json
import sys
import threading
import time

from kubernetes import client, config, dynamic, informer, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

GROUP, VERSION, PLURAL = "clients.example.com", "v1", "lanterns"


def refused(call, *arguments, **options):
    """The (code, reason, message) with which the server refuses a call."""
    try:
        done = call(*arguments, **options)
    except ApiException as error:
        status = json.loads(error.body)
        assert status["kind"] == "Status" and status["code"] == error.status, status
        return error.status, status["reason"], status["message"]
    raise AssertionError(f"it was not refused: {done}")


def until(what, done, seconds=30):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.05)


def deployment(name, image="registry.example/web:v1"):
    labels = {"app": name}
    container = client.V1Container(name="web", image=image, ports=[client.V1ContainerPort(container_port=80)])
    template = client.V1PodTemplateSpec(metadata=client.V1ObjectMeta(labels=labels), spec=client.V1PodSpec(containers=[container]))
    spec = client.V1DeploymentSpec(replicas=2, selector=client.V1LabelSelector(match_labels=labels), template=template)
    return client.V1Deployment(metadata=client.V1ObjectMeta(name=name, labels=labels), spec=spec)


def built_in_kinds():
    core, apps = client.CoreV1Api(), client.AppsV1Api()
    assert client.VersionApi().get_code().major == "1"
    created = apps.create_namespaced_deployment("default", deployment("web"), field_manager="scenario")
    assert created.metadata.managed_fields[0].manager == "scenario", created.metadata.managed_fields
    assert created.spec.strategy.rolling_update.max_surge == "25%", created.spec.strategy
    # The Deployment's controller has pods made, which nobody runs here.
    until("its pods are made", lambda: len(core.list_namespaced_pod("default", label_selector="app=web").items) == 2)
    # A strategic merge finds the container by its name.
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "web", "env": [{"name": "A", "value": "1"}]}]}}}}
    patched = apps.patch_namespaced_deployment("web", "default", patch, _content_type="application/strategic-merge-patch+json")
    container = patched.spec.template.spec.containers[0]
    assert (container.image, container.env[0].value) == ("registry.example/web:v1", "1"), container
    operations = [{"op": "replace", "path": "/spec/replicas", "value": 3}]
    patched = apps.patch_namespaced_deployment("web", "default", operations, _content_type="application/json-patch+json")
    assert patched.spec.replicas == 3
    scale = apps.read_namespaced_deployment_scale("web", "default")
    # Whatever the controller has written since.
    scale.spec.replicas, scale.metadata.resource_version = 0, None
    assert apps.replace_namespaced_deployment_scale("web", "default", scale).status.selector == "app=web"
    until("no pod is left", lambda: not core.list_namespaced_pod("default", label_selector="app=web").items)
    apps.delete_namespaced_deployment("web", "default", propagation_policy="Foreground")
    until("it is gone", lambda: not apps.list_namespaced_deployment("default").items)
    assert not apps.list_namespaced_replica_set("default").items
    # What a YAML file would say.
    text = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "team"}, "data": {"a": "1"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "team"}, "spec": {"ports": [{"port": 80}]}},
    ]
    utils.create_from_yaml(client.ApiClient(), yaml_objects=text)
    assert core.read_namespaced_service("web", "team").spec.cluster_ip.count(".") == 3


def errors():
    core = client.CoreV1Api()
    assert refused(core.read_namespaced_config_map, "a", "default") == (404, "NotFound", 'configmaps "a" not found')
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a"), data={"x": "1"})
    created = core.create_namespaced_config_map("default", body)
    assert refused(core.create_namespaced_config_map, "default", body) == (409, "AlreadyExists", 'configmaps "a" already exists')
    core.patch_namespaced_config_map("a", "default", {"data": {"x": "2"}})
    code, reason, message = refused(core.replace_namespaced_config_map, "a", "default", created)
    assert (code, reason) == (409, "Conflict") and "the object has been modified" in message, message
    wrong = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="A_b"))
    code, reason, message = refused(core.create_namespaced_config_map, "default", wrong)
    assert (code, reason) == (422, "Invalid") and "metadata.name: Invalid value" in message, message
    stale = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="not-this-one"))
    assert refused(core.delete_namespaced_config_map, "a", "default", body=stale)[:2] == (409, "Conflict")
    # A token of a ServiceAccount that may do nothing.
    core.create_namespaced_service_account("default", client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="visitor")))
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
    token = core.create_namespaced_service_account_token("visitor", "default", request).status.token
    settings = client.Configuration.get_default_copy()
    settings.cert_file = settings.key_file = None
    settings.api_key = {"BearerToken": f"Bearer {token}"}
    visitor = client.ApiClient(settings)
    code, reason, message = refused(client.CoreV1Api(visitor).list_namespaced_secret, "default")
    assert (code, reason) == (403, "Forbidden"), (code, reason)
    assert message == (
        'secrets is forbidden: User "system:serviceaccount:default:visitor" cannot list resource "secrets" in API group "" '
        'in the namespace "default"'
    ), message
    whoami = client.AuthenticationV1Api(visitor).create_self_subject_review(client.V1SelfSubjectReview())
    assert whoami.status.user_info.username == "system:serviceaccount:default:visitor"
    settings.api_key = {"BearerToken": "Bearer nonsense"}
    assert refused(client.CoreV1Api(client.ApiClient(settings)).list_namespace)[:2] == (401, "Unauthorized")


def watches():
    core = client.CoreV1Api()

    def create(name, namespace="default"):
        return core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"of": "python"})))

    for name in "abc":
        create(name)
    names, token, pages = [], None, 0
    while True:
        page = core.list_namespaced_config_map("default", label_selector="of=python", limit=2, _continue=token)
        names, token, pages = names + [item.metadata.name for item in page.items], page.metadata._continue, pages + 1
        if not token:
            break
    assert (names, pages) == (["a", "b", "c"], 2), names
    since = page.metadata.resource_version
    create("d")
    core.patch_namespaced_config_map("a", "default", {"data": {"x": "1"}})
    core.delete_namespaced_config_map("b", "default")
    seen = []
    watcher = watch.Watch()
    for event in watcher.stream(core.list_namespaced_config_map, "default", label_selector="of=python", resource_version=since, timeout_seconds=20):
        assert isinstance(event["object"], client.V1ConfigMap), event
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            watcher.stop()
    assert seen == [("ADDED", "d"), ("MODIFIED", "a"), ("DELETED", "b")], seen
    # The state by a watch alone.
    seen = []
    watcher = watch.Watch()
    options = {"send_initial_events": True, "resource_version_match": "NotOlderThan", "allow_watch_bookmarks": True, "timeout_seconds": 20}
    for event in watcher.stream(core.list_namespaced_config_map, "default", label_selector="of=python", **options):
        if event["type"] == "BOOKMARK":
            annotations = event["raw_object"]["metadata"]["annotations"]
            assert annotations == {"k8s.io/initial-events-end": "true"}, annotations
            break
        seen.append(event["object"].metadata.name)
    assert sorted(seen) == ["a", "c", "d"], seen
    # An informer.
    events = []
    shared = informer.SharedInformer(core.list_namespaced_config_map, namespace="default", label_selector="of=python")
    for kind in (informer.ADDED, informer.MODIFIED, informer.DELETED):
        shared.add_event_handler(kind, lambda it, kind=kind: events.append((kind, it.metadata.name)))
    shared.start()
    until("the informer has the list", lambda: len(shared.cache.list_keys()) == 3)
    create("e")
    core.delete_namespaced_config_map("a", "default")
    until("the informer has followed", lambda: events[3:] == [("ADDED", "e"), ("DELETED", "a")])
    assert sorted(shared.cache.list_keys()) == ["default/c", "default/d", "default/e"]
    shared.stop()


def definition():
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["colour"],
                "properties": {"colour": {"type": "string", "enum": ["red", "green"]}, "size": {"type": "integer", "default": 1, "minimum": 1}},
            },
            "status": {"type": "object", "properties": {"lit": {"type": "boolean"}}},
        },
    }
    version = client.V1CustomResourceDefinitionVersion(
        name=VERSION,
        served=True,
        storage=True,
        schema=client.V1CustomResourceValidation(open_apiv3_schema=schema),
        subresources=client.V1CustomResourceSubresources(status={}),
    )
    names = client.V1CustomResourceDefinitionNames(plural=PLURAL, singular="lantern", kind="Lantern", list_kind="LanternList")
    spec = client.V1CustomResourceDefinitionSpec(group=GROUP, scope="Namespaced", names=names, versions=[version])
    return client.V1CustomResourceDefinition(metadata=client.V1ObjectMeta(name=f"{PLURAL}.{GROUP}"), spec=spec)


def define():
    """Makes the definition and watches it until it is established."""
    extensions = client.ApiextensionsV1Api()
    created = extensions.create_custom_resource_definition(definition())
    watcher = watch.Watch()
    for event in watcher.stream(extensions.list_custom_resource_definition, field_selector=f"metadata.name={created.metadata.name}", timeout_seconds=20):
        conditions = {it.type: it.status for it in (event["object"].status.conditions or [])} if event["object"].status else {}
        if conditions.get("Established") == "True":
            watcher.stop()
            return
    raise AssertionError("the definition was not established")


def lantern(name, **spec):
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Lantern", "metadata": {"name": name}, "spec": spec}


def custom_objects():
    define()
    api = client.CustomObjectsApi()
    where = (GROUP, VERSION, "default", PLURAL)
    created = api.create_namespaced_custom_object(*where, lantern("a", colour="red"))
    assert created["spec"] == {"colour": "red", "size": 1} and created["metadata"]["generation"] == 1, created
    code, reason, message = refused(api.create_namespaced_custom_object, *where, lantern("b", colour="blue", size=0))
    assert (code, reason) == (422, "Invalid"), (code, reason)
    assert 'spec.colour: Unsupported value: "blue": supported values: "red", "green"' in message, message
    assert "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1" in message, message
    code, reason, message = refused(api.create_namespaced_custom_object, *where, lantern("b", colour="red", shade=True), field_validation="Strict")
    assert code == 400 and 'unknown field "spec.shade"' in message, message
    since = api.list_namespaced_custom_object(*where)["metadata"]["resourceVersion"]
    patched = api.patch_namespaced_custom_object(*where, "a", {"spec": {"size": 2}})
    assert patched["spec"]["size"] == 2 and patched["metadata"]["generation"] == 2
    lit = api.patch_namespaced_custom_object_status(*where, "a", {"status": {"lit": True}, "spec": {"size": 9}})
    assert (lit["status"], lit["spec"]["size"], lit["metadata"]["generation"]) == ({"lit": True}, 2, 2), lit
    lit["spec"]["colour"], lit["status"] = "green", {}
    replaced = api.replace_namespaced_custom_object(*where, "a", lit)
    assert (replaced["spec"]["colour"], replaced["status"]) == ("green", {"lit": True}), replaced
    assert refused(api.replace_namespaced_custom_object, *where, "a", lit)[:2] == (409, "Conflict")
    # The client knows no body of an answer 201, which this is.
    apply = {"field_manager": "scenario", "_content_type": "application/apply-patch+yaml"}
    _, code, _ = api.patch_namespaced_custom_object_with_http_info(*where, "b", lantern("b", colour="red"), **apply)
    assert code == 201, code
    applied = api.patch_namespaced_custom_object(*where, "b", lantern("b", colour="red"), **apply)
    assert applied["metadata"]["managedFields"][0]["operation"] == "Apply", applied
    deleted = api.delete_namespaced_custom_object(*where, "a")
    assert (deleted["kind"], deleted["status"], deleted["details"]["kind"]) == ("Status", "Success", PLURAL), deleted
    assert [it["metadata"]["name"] for it in api.list_cluster_custom_object(GROUP, VERSION, PLURAL)["items"]] == ["b"]
    seen = []
    watcher = watch.Watch()
    for event in watcher.stream(api.list_namespaced_custom_object, *where, resource_version=since, timeout_seconds=20):
        seen.append((event["type"], event["object"]["metadata"]["name"]))
        if event["type"] == "DELETED":
            watcher.stop()
    assert seen == [("MODIFIED", "a")] * 3 + [("ADDED", "b"), ("DELETED", "a")], seen
    api.delete_collection_namespaced_custom_object(*where)
    assert not api.list_namespaced_custom_object(*where)["items"]
    assert refused(api.list_cluster_custom_object, GROUP, "v9", PLURAL)[0] == 404


def server_side_apply():
    define()
    dynamic_client = dynamic.DynamicClient(client.ApiClient())
    maps = dynamic_client.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}}
    first = maps.server_side_apply(body=body, namespace="default", field_manager="one")
    again = maps.server_side_apply(body=body, namespace="default", field_manager="one")
    assert first.metadata.resourceVersion == again.metadata.resourceVersion
    body["data"]["x"] = "2"
    try:
        maps.server_side_apply(body=body, namespace="default", field_manager="two")
        raise AssertionError("what one owns was taken")
    except dynamic.exceptions.ConflictError as error:
        assert error.summary().count('conflict with "one": .data.x') == 1, error.summary()
    forced = maps.server_side_apply(body=body, namespace="default", field_manager="two", force_conflicts=True)
    assert forced.data.x == "2"
    # Kinds by what discovery says of them.
    lanterns = dynamic_client.resources.get(api_version=f"{GROUP}/{VERSION}", kind="Lantern")
    assert (lanterns.name, lanterns.namespaced, "status" in lanterns.subresources) == (PLURAL, True, True), lanterns
    applied = lanterns.server_side_apply(body=lantern("a", colour="red"), namespace="default", field_manager="one")
    assert applied.spec.size == 1
    merged = lanterns.patch(body=lantern("a", size=4), namespace="default", content_type="application/merge-patch+json")
    assert (merged.spec.size, merged.spec.colour) == (4, "red")
    try:
        lanterns.patch(body=lantern("a", size=5), namespace="default", content_type="application/strategic-merge-patch+json")
        raise AssertionError("custom resources have no strategic merge")
    except dynamic.exceptions.DynamicApiError as error:
        assert error.status == 415
    seen = []
    for event in lanterns.watch(namespace="default", name="a", timeout=20):
        seen.append((event["type"], event["object"].spec.size))
        if event["type"] == "ADDED":
            lanterns.delete(name="a", namespace="default")
        elif event["type"] == "DELETED":
            break
    assert seen == [("ADDED", 4), ("DELETED", 4)], seen


def leader_election():
    """Two candidates for one Lease: there is never more than one leader, and the other takes over."""
    led = []

    def candidate(name, seconds):
        ends = threading.Event()

        def lead():
            led.append(name)
            ends.wait(seconds)
            # The client stops leading when what is led fails.
            raise RuntimeError("over")

        lock = LeaseLock("lead", "default", name)
        settings = electionconfig.Config(lock, lease_duration=3, renew_deadline=2, retry_period=1, onstarted_leading=lead, onstopped_leading=lambda: None)
        return threading.Thread(target=leaderelection.LeaderElection(settings).run, daemon=True)

    first, second = candidate("first", 1), candidate("second", 0)
    first.start()
    until("the first leads", lambda: led == ["first"])
    second.start()
    until("the second leads", lambda: led == ["first", "second"])
    lease = client.CoordinationV1Api().read_namespaced_lease("lead", "default")
    assert lease.spec.holder_identity == "second", lease.spec
    first.join(20)
    second.join(20)


config.load_kube_config()
globals()[sys.argv[1]]()
print("done")
