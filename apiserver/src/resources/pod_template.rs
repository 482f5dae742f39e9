//! PodTemplate: a template kept for later use.

use api::field::{FieldErrors, FieldPath};
use k8s_openapi::api::core::v1::{PodTemplate as Object, PodTemplateSpec};
use serde_json::Value;

use super::printing::{self, NAME};
use super::{Columns, Kind, pod_spec, workload};

/// See the module.
pub struct PodTemplate;

impl Kind for PodTemplate {
    type Object = Object;
    const GENERATION: bool = true;
    const RETURNS_DELETED: bool = true;

    fn template(object: &mut Object) -> Option<&mut PodTemplateSpec> {
        object.template.as_mut()
    }

    fn set_defaults(object: &mut Object) {
        pod_spec::set_template_defaults(object.template.get_or_insert_default());
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        pod_spec::validate_template(
            &mut errors,
            &FieldPath::root("template"),
            &object.template.clone().unwrap_or_default(),
        );
        errors
    }

    fn warnings(new: &Object, old: Option<&Object>) -> Vec<String> {
        match workload::desires_more(&new.metadata, old.map(|old| &old.metadata)) {
            true => pod_spec::template_warnings(&FieldPath::root("template"), new.template.as_ref()),
            false => Vec::new(),
        }
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text("Containers", "Names of each container in the template."),
            printing::text("Images", "Images referenced by each container in the template."),
            printing::text("Pod Labels", "The labels for the pod template."),
        ];
        Columns {
            columns,
            cells: |object, _| {
                let template = object.template.as_ref();
                let (containers, images) = printing::containers(template.and_then(|template| template.spec.as_ref()));
                let labels =
                    template.and_then(|template| template.metadata.as_ref()).and_then(|meta| meta.labels.as_ref());
                vec![
                    printing::name(&object.metadata),
                    Value::from(containers),
                    Value::from(images),
                    Value::from(printing::labels(labels)),
                ]
            },
        }
    }
}
