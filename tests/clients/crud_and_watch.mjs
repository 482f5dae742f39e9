// CRUD, watch and informer with the official Node client.

import assert from 'node:assert/strict';
import { config, core, fails, inform, k8s, objects, until } from './client.mjs';

const namespace = 'node-crud';
const settings = (name, data) => ({ metadata: { name, labels: { app: 'settings' } }, data });
const patch = (strategy) => k8s.setHeaderOptions('Content-Type', strategy);

await core.createNamespace({ body: { metadata: { name: namespace } } });

// Every change as the watch tells it, from the list's revision on.
const list = await core.listNamespacedConfigMap({ namespace, labelSelector: 'app=settings' });
assert.equal(list.items.length, 0);
const events = [];
let changed = () => {};
const path = `/api/v1/namespaces/${namespace}/configmaps`;
const query = { labelSelector: 'app=settings', resourceVersion: list.metadata.resourceVersion, allowWatchBookmarks: true };
const watch = await new k8s.Watch(config).watch(path, query, (type, object) => {
    events.push([type, object.metadata.name]);
    changed();
}, () => {});

// Create, read, replace, patch in three ways.
const created = await core.createNamespacedConfigMap({ namespace, body: settings('a', { color: 'blue' }) });
assert.ok(created.metadata.uid && created.metadata.creationTimestamp instanceof Date);
const taken = await fails(409, core.createNamespacedConfigMap({ namespace, body: settings('a', {}) }));
assert.equal(taken.reason, 'AlreadyExists');
const invalid = await fails(422, core.createNamespacedConfigMap({ namespace, body: settings('A B', {}) }));
assert.equal(invalid.details.causes[0].field, 'metadata.name');
created.data.size = '1';
const replaced = await core.replaceNamespacedConfigMap({ name: 'a', namespace, body: created });
assert.notEqual(replaced.metadata.resourceVersion, created.metadata.resourceVersion);
assert.equal((await fails(409, core.replaceNamespacedConfigMap({ name: 'a', namespace, body: created }))).reason, 'Conflict');
for (const [strategy, body] of [
    [k8s.PatchStrategy.MergePatch, { data: { size: '2' } }],
    [k8s.PatchStrategy.StrategicMergePatch, { data: { shape: 'round' } }],
    [k8s.PatchStrategy.JsonPatch, [{ op: 'replace', path: '/data/color', value: 'red' }]],
]) {
    await core.patchNamespacedConfigMap({ name: 'a', namespace, body }, patch(strategy));
}
assert.deepEqual((await core.readNamespacedConfigMap({ name: 'a', namespace })).data, { color: 'red', shape: 'round', size: '2' });

// The same through the client that learns paths from discovery.
const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'alone', namespace }, spec: { containers: [{ name: 'c', image: 'nginx' }] } };
assert.equal((await objects.create(pod, undefined, 'All')).spec.restartPolicy, 'Always');
await fails(404, objects.read(pod));
const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'robot', namespace } };
await objects.create(account);
await objects.patch({ ...account, automountServiceAccountToken: false });
assert.equal((await objects.read(account)).automountServiceAccountToken, false);
await objects.delete(account);
await fails(404, objects.read(account));

// Pages.
for (const name of ['b', 'c']) {
    await core.createNamespacedConfigMap({ namespace, body: settings(name, {}) });
}
const first = await core.listNamespacedConfigMap({ namespace, labelSelector: 'app=settings', limit: 2 });
assert.equal(first.items.length, 2);
const rest = await core.listNamespacedConfigMap({ namespace, labelSelector: 'app=settings', limit: 2, _continue: first.metadata._continue });
assert.deepEqual(rest.items.map((item) => item.metadata.name), ['c']);

await core.deleteNamespacedConfigMap({ name: 'a', namespace });
await fails(404, core.readNamespacedConfigMap({ name: 'a', namespace }));
await until('the watch has told all', (look) => (changed = look), () => events.some(([type]) => type === 'DELETED'));
watch.abort();
assert.deepEqual(events, [
    ['ADDED', 'a'],
    ...Array(4).fill(['MODIFIED', 'a']),
    ['ADDED', 'b'],
    ['ADDED', 'c'],
    ['DELETED', 'a'],
]);

// An informer: what is there, then each change; its store holds what is left.
const { informer, seen } = await inform(
    path,
    () => core.listNamespacedConfigMap({ namespace, labelSelector: 'app=settings' }),
    'app=settings',
);
await seen('add', 'b');
await core.createNamespacedConfigMap({ namespace, body: settings('d', {}) });
await seen('add', 'd');
await core.patchNamespacedConfigMap({ name: 'b', namespace, body: { data: { x: 'y' } } }, patch(k8s.PatchStrategy.MergePatch));
await seen('update', 'b', (object) => object.data.x === 'y');
await core.patchNamespacedConfigMap({ name: 'c', namespace, body: { metadata: { labels: null } } }, patch(k8s.PatchStrategy.MergePatch));
await seen('delete', 'c');
await core.deleteNamespacedConfigMap({ name: 'b', namespace });
await seen('delete', 'b');
assert.deepEqual(informer.list(namespace).map((object) => object.metadata.name), ['d']);
await informer.stop();

const gone = await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector: 'app=settings' });
assert.equal(gone.kind, 'ConfigMapList');
assert.equal((await core.listNamespacedConfigMap({ namespace, labelSelector: 'app=settings' })).items.length, 0);
console.log('all done');
