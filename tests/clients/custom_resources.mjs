// Custom resources with the official Node client: define, wait, CRUD, informer, a refused object, remove.

import assert from 'node:assert/strict';
import { config, core, fails, inform, k8s, objects, until } from './client.mjs';

const group = 'node.example.com';
const [version, plural, namespace] = ['v1', 'widgets', 'node-custom'];
const at = { group, version, namespace, plural };
const widget = (name, spec) => ({ apiVersion: `${group}/${version}`, kind: 'Widget', metadata: { name, namespace }, spec });
const definition = {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${group}` },
    spec: {
        group,
        names: { kind: 'Widget', plural, singular: 'widget', shortNames: ['wd'] },
        scope: 'Namespaced',
        versions: [{
            name: version,
            served: true,
            storage: true,
            subresources: { status: {}, scale: { specReplicasPath: '.spec.count', statusReplicasPath: '.status.count' } },
            schema: { openAPIV3Schema: {
                type: 'object',
                required: ['spec'],
                properties: {
                    spec: { type: 'object', properties: {
                        size: { type: 'string', _enum: ['small', 'large'], _default: 'small' },
                        count: { type: 'integer', minimum: 1 },
                    } },
                    status: { type: 'object', properties: { count: { type: 'integer' } } },
                },
            } },
        }],
    },
};

await core.createNamespace({ body: { metadata: { name: namespace } } });
const definitions = config.makeApiClient(k8s.ApiextensionsV1Api);
const custom = config.makeApiClient(k8s.CustomObjectsApi);
const { informer: established, seen: seenDefinition } = await inform(
    '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
    () => definitions.listCustomResourceDefinition(),
);
await definitions.createCustomResourceDefinition({ body: definition });
const isEstablished = (object) =>
    object.status?.conditions?.some(({ type, status }) => type === 'Established' && status === 'True');
await until('Established', (look) => established.on('change', look), () => isEstablished(established.get(definition.metadata.name) ?? {}));

// Its objects are like any others.
const path = `/apis/${group}/${version}/namespaces/${namespace}/${plural}`;
const { informer, seen } = await inform(path, () => custom.listNamespacedCustomObject(at));
const created = await custom.createNamespacedCustomObject({ ...at, body: { ...widget('a', { count: 1 }), surplus: true } });
assert.deepEqual(created.spec, { count: 1, size: 'small' });
assert.equal(created.surplus, undefined);
assert.equal(created.metadata.generation, 1);
await seen('add', 'a');

const refused = await fails(422, custom.createNamespacedCustomObject({ ...at, body: widget('b', { size: 'huge', count: 0 }) }));
assert.equal(refused.reason, 'Invalid');
assert.deepEqual(refused.details.causes.map(({ field }) => field).sort(), ['spec.count', 'spec.size']);

const replaced = await custom.replaceNamespacedCustomObject({ ...at, name: 'a', body: { ...created, spec: { count: 2, size: 'large' } } });
assert.equal(replaced.metadata.generation, 2);
await fails(409, custom.replaceNamespacedCustomObject({ ...at, name: 'a', body: created }));
await custom.patchNamespacedCustomObject({ ...at, name: 'a', body: { spec: { count: 3 } } }, k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch));
await seen('update', 'a', (object) => object.spec.count === 3);
const status = await custom.patchNamespacedCustomObjectStatus({ ...at, name: 'a', body: { status: { count: 3 }, spec: { count: 9 } } }, k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch));
assert.deepEqual([status.status.count, status.spec.count, status.metadata.generation], [3, 3, 3]);
const scale = await custom.getNamespacedCustomObjectScale({ ...at, name: 'a' });
assert.deepEqual([scale.kind, scale.spec.replicas, scale.status.replicas], ['Scale', 3, 3]);

// Apply, and the client that learns paths from discovery.
const applied = await objects.patch(widget('c', { count: 5 }), undefined, undefined, 'one', false, k8s.PatchStrategy.ServerSideApply);
assert.deepEqual(applied.spec, { count: 5, size: 'small' });
const conflict = await fails(409, objects.patch(widget('c', { count: 6 }), undefined, undefined, 'two', false, k8s.PatchStrategy.ServerSideApply));
assert.equal(conflict.details.causes[0].field, '.spec.count');
assert.equal((await objects.list(`${group}/${version}`, 'Widget', namespace)).items.length, 2);

await custom.deleteNamespacedCustomObject({ ...at, name: 'a' });
await seen('delete', 'a');
await informer.stop();
await definitions.deleteCustomResourceDefinition({ name: definition.metadata.name });
await seenDefinition('delete', definition.metadata.name);
await established.stop();
await fails(404, custom.listNamespacedCustomObject(at));
console.log('all done');
