"""Custom resources with the official Python client: define, wait, CRUD, watch, a refused object, remove."""

import json

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException

config.load_kube_config()
core, definitions, custom = client.CoreV1Api(), client.ApiextensionsV1Api(), client.CustomObjectsApi()
GROUP, VERSION, PLURAL, NAMESPACE = "python.example.com", "v1", "gadgets", "python-custom"
NAME = f"{PLURAL}.{GROUP}"
AT = (GROUP, VERSION, NAMESPACE, PLURAL)
SPEC = {
    "type": "object",
    "properties": {
        "size": {"type": "string", "enum": ["small", "large"], "default": "small"},
        "count": {"type": "integer", "minimum": 1},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
    },
}
STATUS = {"type": "object", "properties": {"count": {"type": "integer"}}}


def gadget(name, **spec):
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Gadget", "metadata": {"name": name}, "spec": spec}


def status_of(code, call):
    try:
        call()
    except ApiException as error:
        assert error.status == code, error
        # A path that is not served is answered with plain text.
        return json.loads(error.body) if error.body.startswith("{") else error.body
    raise AssertionError(f"succeeded, not {code}")


core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
created = definitions.create_custom_resource_definition(
    client.V1CustomResourceDefinition(
        metadata=client.V1ObjectMeta(name=NAME),
        spec=client.V1CustomResourceDefinitionSpec(
            group=GROUP,
            scope="Namespaced",
            names=client.V1CustomResourceDefinitionNames(kind="Gadget", plural=PLURAL, short_names=["gd"]),
            versions=[
                client.V1CustomResourceDefinitionVersion(
                    name=VERSION,
                    served=True,
                    storage=True,
                    subresources={"status": {}},
                    schema=client.V1CustomResourceValidation(
                        open_apiv3_schema=client.V1JSONSchemaProps(
                            type="object", properties={"spec": SPEC, "status": STATUS}
                        )
                    ),
                )
            ],
        ),
    )
)
stream = watch.Watch()
for event in stream.stream(
    definitions.list_custom_resource_definition, field_selector=f"metadata.name={NAME}", timeout_seconds=20
):
    conditions = {one.type: one.status for one in event["object"].status.conditions or []}
    if conditions.get("Established") == "True":
        stream.stop()
assert conditions == {"NamesAccepted": "True", "Established": "True"}, conditions

# CRUD.
start = custom.list_namespaced_custom_object(*AT)["metadata"]["resourceVersion"]
first = custom.create_namespaced_custom_object(*AT, gadget("a", count=1, surplus=2))
assert first["spec"] == {"count": 1, "size": "small"} and first["metadata"]["generation"] == 1, first
refused = status_of(422, lambda: custom.create_namespaced_custom_object(*AT, gadget("b", size="huge", tags=[1, "x", "y"])))
assert refused["reason"] == "Invalid", refused
assert {"spec.size", "spec.tags", "spec.tags[0]"} <= {cause["field"] for cause in refused["details"]["causes"]}, refused
strict = status_of(
    400, lambda: custom.create_namespaced_custom_object(*AT, gadget("b", surplus=2), field_validation="Strict")
)
assert 'unknown field "spec.surplus"' in strict["message"], strict
second = custom.replace_namespaced_custom_object(*AT, "a", first | {"spec": {"count": 2}})
assert second["metadata"]["generation"] == 2 and second["spec"]["size"] == "small"
assert status_of(409, lambda: custom.replace_namespaced_custom_object(*AT, "a", first))["reason"] == "Conflict"
third = custom.patch_namespaced_custom_object_status(*AT, "a", {"status": {"count": 2}, "spec": {"count": 9}})
assert (third["status"]["count"], third["spec"]["count"], third["metadata"]["generation"]) == (2, 2, 2), third

# The dynamic client finds the new kind, and applies.
every = dynamic.DynamicClient(client.ApiClient())
gadgets = every.resources.get(api_version=f"{GROUP}/{VERSION}", kind="Gadget")
applied = every.server_side_apply(gadgets, body=gadget("c", count=7), namespace=NAMESPACE, field_manager="one")
assert applied.spec.count == 7 and applied.spec.size == "small"
assert [item.metadata.name for item in gadgets.get(namespace=NAMESPACE).items] == ["a", "c"]

# What a watch from the beginning tells.
custom.delete_namespaced_custom_object(*AT, "a")
seen = []
stream = watch.Watch()
for event in stream.stream(custom.list_namespaced_custom_object, *AT, resource_version=start, timeout_seconds=20):
    seen.append((event["type"], event["object"]["metadata"]["name"]))
    if event["type"] == "DELETED":
        stream.stop()
assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("MODIFIED", "a"), ("ADDED", "c"), ("DELETED", "a")], seen

# Without its definition the kind and its objects are gone.
definitions.delete_custom_resource_definition(NAME)
for event in watch.Watch().stream(
    definitions.list_custom_resource_definition,
    field_selector=f"metadata.name={NAME}",
    resource_version=created.metadata.resource_version,
    timeout_seconds=20,
):
    if event["type"] == "DELETED":
        break
else:
    raise AssertionError("the definition stays")
status_of(404, lambda: custom.list_namespaced_custom_object(*AT))
print("all done")
