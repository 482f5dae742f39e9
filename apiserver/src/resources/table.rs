//! The rows: every built-in kind that this server knows, in the order of discovery.

use super::api_service::APIService;
use super::certificate_signing_request::CertificateSigningRequest;
use super::component_status::ComponentStatus;
use super::config_map::ConfigMap;
use super::controller_revision::ControllerRevision;
use super::cron_job::CronJob;
use super::csi::{CsiDriver, CsiNode, CsiStorageCapacity, VolumeAttachment};
use super::custom_resource_definition::CustomResourceDefinition;
use super::daemon_set::DaemonSet;
use super::deployment::Deployment;
use super::dynamic_resources::{DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice};
use super::endpoint_slice::EndpointSlice;
use super::endpoints::Endpoints;
use super::event::{CoreEvent, Event};
use super::flow_schema::FlowSchema;
use super::horizontal_pod_autoscaler::{HorizontalPodAutoscaler, OldAutoscaler};
use super::ingress::{Ingress, IngressClass};
use super::ip_address::IpAddress;
use super::job::Job;
use super::lease::Lease;
use super::limit_range::LimitRange;
use super::mutating_admission_policy::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding};
use super::namespace::Namespace;
use super::network_policy::NetworkPolicy;
use super::node::Node;
use super::persistent_volume::PersistentVolume;
use super::persistent_volume_claim::PersistentVolumeClaim;
use super::pod::Pod;
use super::pod_disruption_budget::PodDisruptionBudget;
use super::pod_template::PodTemplate;
use super::priority_class::PriorityClass;
use super::priority_level_configuration::PriorityLevelConfiguration;
use super::rbac::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use super::replica_set::ReplicaSet;
use super::replication_controller::ReplicationController;
use super::resource_quota::ResourceQuota;
use super::reviews::{Binding, LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectReview};
use super::reviews::{SelfSubjectRulesReview, SubjectAccessReview, TokenReview};
use super::runtime_class::RuntimeClass;
use super::secret::Secret;
use super::service::Service;
use super::service_account::ServiceAccount;
use super::service_cidr::ServiceCidr;
use super::stateful_set::StatefulSet;
use super::storage_class::StorageClass;
use super::validating_admission_policy::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use super::volume_attributes_class::VolumeAttributesClass;
use super::webhook_configuration::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use super::{BuiltIn, Kind, Strategy};

fn row<K: Kind>() -> Box<dyn Strategy> {
    Box::new(BuiltIn::<K>::new())
}

/// One strategy for each kind.
pub fn table() -> Vec<Box<dyn Strategy>> {
    vec![
        // core
        row::<Binding>(),
        row::<ComponentStatus>(),
        row::<ConfigMap>(),
        row::<Endpoints>(),
        row::<CoreEvent>(),
        row::<LimitRange>(),
        row::<Namespace>(),
        row::<Node>(),
        row::<PersistentVolumeClaim>(),
        row::<PersistentVolume>(),
        row::<Pod>(),
        row::<PodTemplate>(),
        row::<ReplicationController>(),
        row::<ResourceQuota>(),
        row::<Secret>(),
        row::<Service>(),
        row::<ServiceAccount>(),
        // admissionregistration.k8s.io
        row::<MutatingAdmissionPolicy>(),
        row::<MutatingAdmissionPolicyBinding>(),
        row::<MutatingWebhookConfiguration>(),
        row::<ValidatingAdmissionPolicy>(),
        row::<ValidatingAdmissionPolicyBinding>(),
        row::<ValidatingWebhookConfiguration>(),
        // apiregistration.k8s.io
        row::<APIService>(),
        // apiextensions.k8s.io
        row::<CustomResourceDefinition>(),
        // apps
        row::<ControllerRevision>(),
        row::<DaemonSet>(),
        row::<Deployment>(),
        row::<ReplicaSet>(),
        row::<StatefulSet>(),
        // authentication.k8s.io
        row::<SelfSubjectReview>(),
        row::<TokenReview>(),
        // authorization.k8s.io
        row::<LocalSubjectAccessReview>(),
        row::<SelfSubjectAccessReview>(),
        row::<SelfSubjectRulesReview>(),
        row::<SubjectAccessReview>(),
        // autoscaling
        row::<HorizontalPodAutoscaler>(),
        row::<OldAutoscaler>(),
        // batch
        row::<CronJob>(),
        row::<Job>(),
        // certificates.k8s.io
        row::<CertificateSigningRequest>(),
        // coordination.k8s.io
        row::<Lease>(),
        // discovery.k8s.io
        row::<EndpointSlice>(),
        // events.k8s.io
        row::<Event>(),
        // flowcontrol.apiserver.k8s.io
        row::<FlowSchema>(),
        row::<PriorityLevelConfiguration>(),
        // networking.k8s.io
        row::<Ingress>(),
        row::<IngressClass>(),
        row::<IpAddress>(),
        row::<NetworkPolicy>(),
        row::<ServiceCidr>(),
        // node.k8s.io
        row::<RuntimeClass>(),
        // policy
        row::<PodDisruptionBudget>(),
        // rbac.authorization.k8s.io
        row::<ClusterRole>(),
        row::<ClusterRoleBinding>(),
        row::<Role>(),
        row::<RoleBinding>(),
        // resource.k8s.io
        row::<DeviceClass>(),
        row::<ResourceClaim>(),
        row::<ResourceClaimTemplate>(),
        row::<ResourceSlice>(),
        // scheduling.k8s.io
        row::<PriorityClass>(),
        // storage.k8s.io
        row::<CsiDriver>(),
        row::<CsiNode>(),
        row::<CsiStorageCapacity>(),
        row::<StorageClass>(),
        row::<VolumeAttachment>(),
        row::<VolumeAttributesClass>(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn rows_are_complete_and_unique() {
        let mut seen = BTreeMap::new();
        for row in table() {
            let info = row.info();
            let key = (info.group.clone(), info.version.clone(), info.plural.clone());
            assert!(seen.insert(key, ()).is_none(), "{} occurs twice", info.plural);
            assert!(info.subresources.is_sorted_by_key(|sub| format!("{sub:?}")), "{}", info.plural);
            let known = super::super::schema::of(&info.api_version(), &info.kind);
            assert!(known.is_some(), "{} has no schema", info.kind);
            assert_eq!(row.columns().is_empty(), !info.stored && !row.computed(), "{}", info.plural);
        }
    }

    #[test]
    fn errors_show_upstreams_keys() {
        let keys: Vec<String> = table().iter().map(|row| row.info().key_upstream("n", "a")).collect();
        let some = ["minions/a", "controllers/n/a", "services/specs/n/a", "services/endpoints/n/a", "ingress/n/a"];
        let more = ["deployments/n/a", "events/n/a", "clusterroles/a", "apiregistration.k8s.io/apiservices/a"];
        for key in some.iter().chain(&more) {
            assert!(keys.contains(&format!("/registry/{key}")), "{key}");
        }
    }

    #[test]
    fn an_empty_object_passes_through_every_row() {
        let now = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
        for row in table() {
            let empty = serde_json::json!({"apiVersion": "", "kind": "", "metadata": {"name": "a"}});
            let mut value = empty.clone();
            value.as_object_mut().map(|fields| (fields.remove("apiVersion"), fields.remove("kind")));
            let mut object = row.decode(value).unwrap_or_else(|error| panic!("{}: {error:?}", row.info().kind));
            row.set_defaults(object.as_mut());
            row.prepare_for_create(object.as_mut());
            let _ = row.validate(object.as_ref());
            assert_eq!(row.cells(object.as_ref(), now).len(), row.columns().len(), "{}", row.info().kind);
            let bytes = object.to_bytes();
            let again = row.decode_stored(&bytes).unwrap_or_else(|error| panic!("{}: {error:?}", row.info().kind));
            assert_eq!(again.to_bytes(), bytes, "{}", row.info().kind);
            let old = again.clone_object();
            row.prepare_for_update(object.as_mut(), old.as_ref());
            row.prepare_for_status_update(object.as_mut(), old.as_ref());
            let _ = (
                row.validate_update(object.as_ref(), old.as_ref()),
                row.validate_status_update(object.as_ref(), old.as_ref()),
            );
        }
    }
}
