// Server-side apply with the official Node client: creation, shared and contested fields, force, removal.

import assert from 'node:assert/strict';
import { core, fails, k8s, objects } from './client.mjs';

const namespace = 'node-apply';
const settings = (data) => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'settings', namespace }, data });
const apply = (manager, body, force = false) =>
    core.patchNamespacedConfigMap(
        { name: 'settings', namespace, body, fieldManager: manager, force },
        k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.ServerSideApply),
    );

await core.createNamespace({ body: { metadata: { name: namespace } } });
const created = await apply('one', settings({ color: 'blue', size: '1' }));
assert.deepEqual(created.data, { color: 'blue', size: '1' });
const owner = created.metadata.managedFields.find((fields) => fields.manager === 'one');
assert.equal(owner.operation, 'Apply');
assert.deepEqual(owner.fieldsV1['f:data'], { 'f:color': {}, 'f:size': {} });

// The same again changes nothing.
const again = await apply('one', settings({ color: 'blue', size: '1' }));
assert.equal(again.metadata.resourceVersion, created.metadata.resourceVersion);

// Another manager: its own field, an agreement, a conflict, force.
await apply('two', settings({ shape: 'round', size: '1' }));
const conflict = await fails(409, apply('two', settings({ color: 'red', shape: 'round' })));
assert.equal(conflict.reason, 'Conflict');
assert.deepEqual(conflict.details.causes, [
    { reason: 'FieldManagerConflict', message: 'conflict with "one"', field: '.data.color' },
]);
assert.equal((await apply('two', settings({ color: 'red', shape: 'round' }), true)).data.color, 'red');

// What its last owner no longer applies goes; what another one owns stays.
const removed = await apply('two', settings({ color: 'red' }));
assert.deepEqual(removed.data, { color: 'red', size: '1' });

// A field that no schema knows; and apply by the client that learns paths from discovery.
await fails(500, apply('one', { ...settings({}), datas: {} }));
const through = { ...settings({ weight: '2' }), metadata: { name: 'through', namespace } };
const applied = await objects.patch(through, undefined, undefined, 'three', true, k8s.PatchStrategy.ServerSideApply);
assert.equal(applied.data.weight, '2');
console.log('all done');
