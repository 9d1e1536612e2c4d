// Users of the JavaScript client: each function is a scenario, run by name against the cluster of KUBECONFIG.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import * as k8s from '@kubernetes/client-node';

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const namespace = 'default';

async function until(what, done) {
    for (const end = Date.now() + 30_000; !(await done()); await sleep(50)) {
        assert.ok(Date.now() < end, `waited in vain until ${what}`);
    }
}

/** The [code, reason, message] with which the server refuses a call. */
async function refused(call) {
    try {
        const done = await call;
        assert.fail(`it was not refused: ${JSON.stringify(done)}`);
    } catch (error) {
        if (!(error instanceof k8s.ApiException)) throw error;
        const status = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
        assert.equal(status.kind, 'Status');
        assert.equal(status.code, error.code);
        return [error.code, status.reason, status.message];
    }
}

function deployment(name) {
    const labels = { app: name };
    const containers = [
        { name: 'web', image: 'registry.example/web:v1' },
        { name: 'side', image: 'registry.example/side:v1' },
    ];
    return { metadata: { name, labels }, spec: { replicas: 2, selector: { matchLabels: labels }, template: { metadata: { labels }, spec: { containers } } } };
}

async function patches() {
    await apps.createNamespacedDeployment({ namespace, body: deployment('web') });
    const patch = (type, body, more = {}) =>
        apps.patchNamespacedDeployment({ name: 'web', namespace, body, ...more }, k8s.setHeaderOptions('Content-Type', type));
    const images = (it) => it.spec.template.spec.containers.map((container) => container.image);
    // A strategic merge changes the one container of that name, a merge replaces them all, a JSON patch counts them.
    const container = (name, image) => ({ spec: { template: { spec: { containers: [{ name, image }] } } } });
    let done = await patch(k8s.PatchStrategy.StrategicMergePatch, container('side', 'registry.example/side:v2'));
    assert.deepEqual(images(done), ['registry.example/web:v1', 'registry.example/side:v2']);
    done = await patch(k8s.PatchStrategy.JsonPatch, [{ op: 'replace', path: '/spec/template/spec/containers/0/image', value: 'registry.example/web:v2' }]);
    assert.deepEqual(images(done), ['registry.example/web:v2', 'registry.example/side:v2']);
    done = await patch(k8s.PatchStrategy.MergePatch, container('web', 'registry.example/web:v3'));
    assert.deepEqual(images(done), ['registry.example/web:v3']);
    assert.equal(done.metadata.generation, 4);
    assert.ok(done.metadata.creationTimestamp instanceof Date);
    const apply = { apiVersion: 'apps/v1', kind: 'Deployment', ...deployment('web') };
    const [code, reason, message] = await refused(patch(k8s.PatchStrategy.ServerSideApply, apply, { fieldManager: 'scenario' }));
    assert.deepEqual([code, reason], [409, 'Conflict']);
    assert.match(message, /conflicts? with "[^"]+" using apps\/v1/);
    done = await patch(k8s.PatchStrategy.ServerSideApply, apply, { fieldManager: 'scenario', force: true });
    assert.deepEqual(images(done).sort(), ['registry.example/side:v1', 'registry.example/web:v1']);
    assert.equal((await refused(patch('text/plain', {})))[0], 415);
    const scale = await apps.patchNamespacedDeploymentScale(
        { name: 'web', namespace, body: { spec: { replicas: 0 } } },
        k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
    );
    assert.equal(scale.status.selector, 'app=web');
    await until('no pod is left', async () => (await core.listNamespacedPod({ namespace, labelSelector: 'app=web' })).items.length === 0);
    const status = await apps.deleteNamespacedDeployment({ name: 'web', namespace, body: { propagationPolicy: 'Background' } });
    assert.equal(status.status, 'Success');
    await until('its ReplicaSets are gone', async () => (await apps.listNamespacedReplicaSet({ namespace })).items.length === 0);
}

const configMap = (name, data = {}) => ({ metadata: { name, labels: { of: 'node' } }, data });
const create = (name, data) => core.createNamespacedConfigMap({ namespace, body: configMap(name, data) });

async function errors() {
    assert.deepEqual(await refused(core.readNamespacedConfigMap({ name: 'a', namespace })), [404, 'NotFound', 'configmaps "a" not found']);
    const made = await create('a');
    assert.deepEqual(await refused(create('a')), [409, 'AlreadyExists', 'configmaps "a" already exists']);
    await core.replaceNamespacedConfigMap({ name: 'a', namespace, body: { ...made, data: { x: '1' } } });
    assert.deepEqual((await refused(core.replaceNamespacedConfigMap({ name: 'a', namespace, body: { ...made, data: {} } }))).slice(0, 2), [409, 'Conflict']);
    assert.deepEqual((await refused(create('No_name'))).slice(0, 2), [422, 'Invalid']);
    assert.equal((await refused(core.listNamespacedPod({ namespace, labelSelector: 'not a selector' })))[0], 400);
    const body = { spec: { resourceAttributes: { verb: 'get', resource: 'secrets', namespace } } };
    const review = await config.makeApiClient(k8s.AuthorizationV1Api).createSelfSubjectAccessReview({ body });
    assert.equal(review.status.allowed, true);
    assert.equal((await config.makeApiClient(k8s.VersionApi).getCode()).major, '1');
    const { groups } = await config.makeApiClient(k8s.ApisApi).getAPIVersions();
    assert.ok(groups.some((group) => group.name === 'apps' && group.preferredVersion.groupVersion === 'apps/v1'));
}

async function informer() {
    await create('a');
    await create('b');
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: 'of=node' });
    const informer = k8s.makeInformer(config, path, list, 'of=node');
    const seen = [];
    for (const kind of ['add', 'update', 'delete']) {
        informer.on(kind, (object) => seen.push(`${kind} ${object.metadata.name} ${object.data?.x ?? '-'}`));
    }
    informer.on('error', (error) => seen.push(`error ${error}`));
    await informer.start();
    await until('it has the list', () => seen.length === 2);
    await create('c', { x: '1' });
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'of-nobody' } } });
    await core.replaceNamespacedConfigMap({ name: 'a', namespace, body: configMap('a', { x: '2' }) });
    await core.deleteNamespacedConfigMap({ name: 'b', namespace });
    await until('it has followed', () => seen.length === 5);
    assert.deepEqual(seen, ['add a -', 'add b -', 'add c 1', 'update a 2', 'delete b -']);
    assert.deepEqual(informer.list(namespace).map((object) => object.metadata.name).sort(), ['a', 'c']);
    await informer.stop();
    // A watch of one's own, from the beginning by a stream and until the server ends it.
    const events = [];
    const options = { sendInitialEvents: true, resourceVersionMatch: 'NotOlderThan', allowWatchBookmarks: true, timeoutSeconds: 1, labelSelector: 'of=node' };
    const error = await new Promise((resolve) => {
        new k8s.Watch(config).watch(path, options, (type, object) => events.push([type, object.metadata.name]), resolve);
    });
    assert.equal(error, null);
    assert.deepEqual(events.slice(0, 3), [['ADDED', 'a'], ['ADDED', 'c'], ['BOOKMARK', undefined]]);
    const { items, metadata } = await core.listNamespacedConfigMap({ namespace, labelSelector: 'of=node', limit: 1 });
    assert.deepEqual([items.length, metadata.remainingItemCount], [1, undefined]);
    const rest = await core.listNamespacedConfigMap({ namespace, labelSelector: 'of=node', limit: 1, _continue: metadata._continue });
    assert.deepEqual(rest.items.map((object) => object.metadata.name), ['c']);
}

async function customResources() {
    const [group, version, plural, kind] = ['clients.example.com', 'v1', 'kites', 'Kite'];
    const spec = { type: 'object', required: ['tail'], properties: { tail: { type: 'integer' }, colours: { type: 'array', items: { type: 'string' }, x_kubernetes_list_type: 'set' } } };
    const openAPIV3Schema = { type: 'object', properties: { spec, status: { type: 'object', x_kubernetes_preserve_unknown_fields: true } } };
    const versions = [{ name: version, served: true, storage: true, schema: { openAPIV3Schema }, subresources: { status: {} } }];
    const extensions = config.makeApiClient(k8s.ApiextensionsV1Api);
    const definition = {
        apiVersion: 'apiextensions.k8s.io/v1',
        kind: 'CustomResourceDefinition',
        metadata: { name: `${plural}.${group}` },
        spec: { group, scope: 'Namespaced', names: { plural, kind, singular: 'kite' }, versions },
    };
    await extensions.createCustomResourceDefinition({ body: definition });
    await until('it is established', async () => {
        const { status } = await extensions.readCustomResourceDefinition({ name: definition.metadata.name });
        return status?.conditions?.some((condition) => condition.type === 'Established' && condition.status === 'True');
    });
    const api = config.makeApiClient(k8s.CustomObjectsApi);
    const where = { group, version, plural, namespace };
    const kite = (name, own) => ({ apiVersion: `${group}/${version}`, kind, metadata: { name, namespace }, spec: own });
    const made = await api.createNamespacedCustomObject({ ...where, body: kite('a', { tail: 3, colours: ['red'] }) });
    assert.equal(made.metadata.generation, 1);
    const [code, , message] = await refused(api.createNamespacedCustomObject({ ...where, body: kite('b', { tail: 'long', colours: ['red', 'red'] }) }));
    assert.equal(code, 422);
    assert.match(message, /spec\.tail: Invalid value: "string": spec\.tail in body must be of type integer: "string"/);
    assert.match(message, /spec\.colours\[1\]: Duplicate value: "red"/);
    const merge = k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch);
    const patched = await api.patchNamespacedCustomObject({ ...where, name: 'a', body: { spec: { tail: 4 } } }, merge);
    assert.deepEqual([patched.spec, patched.metadata.generation], [{ tail: 4, colours: ['red'] }, 2]);
    const high = await api.patchNamespacedCustomObjectStatus({ ...where, name: 'a', body: { status: { height: { metres: 30.5 } } } }, merge);
    assert.deepEqual([high.status, high.metadata.generation], [{ height: { metres: 30.5 } }, 2]);
    const refusal = await refused(api.patchNamespacedCustomObject({ ...where, name: 'a', body: {} }, k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.StrategicMergePatch)));
    assert.deepEqual(refusal.slice(0, 2), [415, 'UnsupportedMediaType']);
    // Objects of any kind, found by discovery.
    const objects = k8s.KubernetesObjectApi.makeApiClient(config);
    const applied = await objects.patch(kite('a', { tail: 4, colours: ['green'] }), undefined, undefined, 'scenario', false, k8s.PatchStrategy.ServerSideApply);
    // Who applies owns the colours it names; the others stay.
    assert.deepEqual([...applied.spec.colours].sort(), ['green', 'red']);
    const listed = await objects.list(`${group}/${version}`, kind, namespace);
    assert.deepEqual(listed.items.map((object) => object.metadata.name), ['a']);
    await objects.delete(kite('a', {}));
    assert.equal((await refused(objects.read(kite('a', {}))))[0], 404);
    assert.equal((await refused(api.listClusterCustomObject({ group, version: 'v2', plural })))[0], 404);
}

await { patches, errors, informer, customResources }[process.argv[2]]();
console.log('done');
// An aborted watch may keep its connection, and with it the process.
process.exit(0);
