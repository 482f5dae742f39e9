//! The namespaces that every cluster has.

use api::error::ApiError;
use api::well_known::namespaces;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::writer::Writer;

/// Creates those that are missing.
pub(super) async fn ensure(writer: &Writer) -> Result<(), ApiError> {
    for name in namespaces::ALL {
        if writer.get::<Namespace>("", name).is_none() {
            let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
            writer.create(Namespace { metadata, ..Namespace::default() }).await?;
        }
    }
    Ok(())
}
