// The official Node client out of the folder that `make test` installed it to, and what the flows share.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const installed = createRequire(`${process.env.NODE_CLIENT}/`).resolve('@kubernetes/client-node');
export const k8s = await import(pathToFileURL(installed));

export const config = new k8s.KubeConfig();
config.loadFromDefault();
export const core = config.makeApiClient(k8s.CoreV1Api);
export const objects = k8s.KubernetesObjectApi.makeApiClient(config);

const SOON = 20_000;

/// Waits until an event has made something true; `changed` is called with what to call after each.
export async function until(what, changed, holds) {
    await new Promise((resolve, reject) => {
        const late = setTimeout(() => reject(new Error(`${what}: not within ${SOON} ms`)), SOON);
        const look = () => {
            if (holds()) {
                clearTimeout(late);
                resolve();
            }
        };
        changed(look);
        look();
    });
}

/// The Status of a call that must fail with this code.
export async function fails(code, call) {
    try {
        await call;
    } catch (error) {
        assert.equal(error.code, code, String(error));
        // A path that is not served is answered with plain text.
        return typeof error.body === 'string' && error.body.startsWith('{') ? JSON.parse(error.body) : error.body;
    }
    return assert.fail(`succeeded, not ${code}`);
}

/// An informer that remembers what it was told and lets one wait for it.
export async function inform(path, list, labels) {
    const informer = k8s.makeInformer(config, path, list, labels);
    const told = [];
    const listeners = [];
    for (const verb of ['add', 'update', 'delete', 'error']) {
        informer.on(verb, (object) => {
            told.push([verb, object.metadata?.name, object]);
            listeners.forEach((listener) => listener());
        });
    }
    await informer.start();
    const has = (verb, name, holds = () => true) => told.some(([v, n, o]) => v === verb && n === name && holds(o));
    const seen = (verb, name, holds) =>
        until(`${verb} ${name}`, (look) => listeners.push(look), () => has(verb, name, holds));
    return { informer, told, seen };
}
