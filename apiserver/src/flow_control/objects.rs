//! The priority levels and flow schemas that every cluster begins with. Entry points: [`levels`], [`schemas`].
//!
//! Source: the tables of <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#defaults>. The mandatory ones
//! may not be changed and come back when they are deleted; the suggested ones follow these tables until an administrator says
//! otherwise with the annotation [`AUTOUPDATE`].

use k8s_openapi::api::flowcontrol::v1::{
    ExemptPriorityLevelConfiguration, FlowDistinguisherMethod, FlowSchema, FlowSchemaSpec, GroupSubject, LimitResponse,
    LimitedPriorityLevelConfiguration, NonResourcePolicyRule, PolicyRulesWithSubjects, PriorityLevelConfiguration,
    PriorityLevelConfigurationReference, PriorityLevelConfigurationSpec, QueuingConfiguration, ResourcePolicyRule,
    ServiceAccountSubject, Subject, UserSubject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Says whether the server keeps an object's spec as it is here.
pub const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// The level, and the schema, without limits.
pub const EXEMPT: &str = "exempt";
/// The level, and the schema, of what matches nothing else.
pub const CATCH_ALL: &str = "catch-all";

/// An object of the tables.
#[derive(Clone, Debug)]
pub struct Given<T> {
    /// The object.
    pub object: T,
    /// Whether its spec is fixed.
    pub mandatory: bool,
}

impl<T> Given<T> {
    fn mandatory(object: T) -> Self {
        Self { object, mandatory: true }
    }

    fn suggested(object: T) -> Self {
        Self { object, mandatory: false }
    }
}

/// The priority levels.
pub fn levels() -> Vec<Given<PriorityLevelConfiguration>> {
    let exempt = PriorityLevelConfigurationSpec {
        type_: "Exempt".to_owned(),
        exempt: Some(ExemptPriorityLevelConfiguration {
            lendable_percent: Some(0),
            nominal_concurrency_shares: Some(0),
        }),
        limited: None,
    };
    vec![
        Given::mandatory(level(CATCH_ALL, limited(5, 0, None))),
        Given::mandatory(level(EXEMPT, exempt)),
        Given::suggested(level("system", limited(30, 33, Some((64, 6))))),
        Given::suggested(level("node-high", limited(40, 25, Some((64, 6))))),
        Given::suggested(level("leader-election", limited(10, 0, Some((16, 4))))),
        Given::suggested(level("workload-high", limited(40, 50, Some((128, 6))))),
        Given::suggested(level("workload-low", limited(100, 90, Some((128, 6))))),
        Given::suggested(level("global-default", limited(20, 50, Some((128, 6))))),
    ]
}

/// The flow schemas.
pub fn schemas() -> Vec<Given<FlowSchema>> {
    const USER: Option<&str> = Some("ByUser");
    const NAMESPACE: Option<&str> = Some("ByNamespace");
    const ELECTION: &[&str] = &["get", "create", "update"];
    const ALL: &[&str] = &["*"];
    let controllers = || vec![user("system:kube-controller-manager"), user("system:kube-scheduler")];
    let system_accounts = || vec![account("kube-system", "*")];
    let nodes = || vec![group("system:nodes")];
    let everybody = || vec![group("system:unauthenticated"), group("system:authenticated")];
    let leases = || rule(ELECTION, "coordination.k8s.io", &["leases"], ALL, false);
    let locks = || rule(ELECTION, "", &["endpoints", "configmaps"], ALL, false);
    let electing = |subjects: Vec<Subject>, rules: Vec<ResourcePolicyRule>| PolicyRulesWithSubjects {
        subjects,
        resource_rules: Some(rules),
        non_resource_rules: None,
    };
    let health = PolicyRulesWithSubjects {
        subjects: nodes(),
        resource_rules: Some(vec![
            rule(ALL, "", &["nodes", "nodes/status"], ALL, true),
            rule(ALL, "coordination.k8s.io", &["leases"], ALL, false),
        ]),
        non_resource_rules: None,
    };
    let probes = PolicyRulesWithSubjects {
        subjects: everybody(),
        resource_rules: None,
        non_resource_rules: Some(vec![NonResourcePolicyRule {
            verbs: owned(&["get"]),
            non_resource_urls: owned(&["/healthz", "/readyz", "/livez"]),
        }]),
    };
    let leaders = [controllers(), system_accounts()].concat();
    vec![
        Given::mandatory(schema(EXEMPT, EXEMPT, 1, None, everything(vec![group("system:masters")]))),
        Given::mandatory(schema(CATCH_ALL, CATCH_ALL, 10_000, USER, everything(everybody()))),
        Given::suggested(schema("system-nodes", "system", 500, USER, everything(nodes()))),
        Given::suggested(schema("system-node-high", "node-high", 400, USER, health)),
        Given::suggested(schema("probes", EXEMPT, 2, None, probes)),
        Given::suggested(schema(
            "system-leader-election",
            "leader-election",
            100,
            USER,
            electing(leaders, vec![leases()]),
        )),
        Given::suggested(schema("endpoint-controller", "workload-high", 150, USER, endpoint_controllers())),
        Given::suggested(schema(
            "workload-leader-election",
            "leader-election",
            200,
            USER,
            electing(system_accounts(), vec![locks(), leases()]),
        )),
        Given::suggested(schema(
            "kube-controller-manager",
            "workload-high",
            800,
            NAMESPACE,
            everything(vec![user("system:kube-controller-manager")]),
        )),
        Given::suggested(schema(
            "kube-scheduler",
            "workload-high",
            800,
            NAMESPACE,
            everything(vec![user("system:kube-scheduler")]),
        )),
        Given::suggested(schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            NAMESPACE,
            everything(system_accounts()),
        )),
        Given::suggested(schema(
            "service-accounts",
            "workload-low",
            9000,
            USER,
            everything(vec![group("system:serviceaccounts")]),
        )),
        Given::suggested(schema("global-default", "global-default", 9900, USER, everything(everybody()))),
    ]
}

/// The controllers that write Endpoints: not to be taken for elections that use Endpoints as locks.
fn endpoint_controllers() -> PolicyRulesWithSubjects {
    let mut subjects = vec![user("system:kube-controller-manager")];
    let names = ["endpoint-controller", "endpointslicemirroring-controller"];
    subjects.extend(names.map(|name| account("kube-system", name)));
    PolicyRulesWithSubjects {
        subjects,
        resource_rules: Some(vec![rule(&["get", "create", "update"], "", &["endpoints"], &["*"], false)]),
        non_resource_rules: None,
    }
}

fn level(name: &str, spec: PriorityLevelConfigurationSpec) -> PriorityLevelConfiguration {
    PriorityLevelConfiguration { metadata: metadata(name), spec: Some(spec), status: None }
}

/// `queuing` is the number of queues and the size of a hand; without it what can't run is refused.
fn limited(shares: i32, lendable: i32, queuing: Option<(i32, i32)>) -> PriorityLevelConfigurationSpec {
    let limit_response = LimitResponse {
        type_: if queuing.is_some() { "Queue" } else { "Reject" }.to_owned(),
        queuing: queuing.map(|(queues, hand)| QueuingConfiguration {
            queues: Some(queues),
            hand_size: Some(hand),
            queue_length_limit: Some(50),
        }),
    };
    PriorityLevelConfigurationSpec {
        type_: "Limited".to_owned(),
        exempt: None,
        limited: Some(LimitedPriorityLevelConfiguration {
            nominal_concurrency_shares: Some(shares),
            lendable_percent: Some(lendable),
            borrowing_limit_percent: None,
            limit_response: Some(limit_response),
        }),
    }
}

fn schema(
    name: &str,
    level: &str,
    precedence: i32,
    distinguisher: Option<&str>,
    rules: PolicyRulesWithSubjects,
) -> FlowSchema {
    FlowSchema {
        metadata: metadata(name),
        spec: Some(FlowSchemaSpec {
            priority_level_configuration: PriorityLevelConfigurationReference { name: level.to_owned() },
            matching_precedence: Some(precedence),
            distinguisher_method: distinguisher.map(|method| FlowDistinguisherMethod { type_: method.to_owned() }),
            rules: Some(vec![rules]),
        }),
        status: None,
    }
}

fn metadata(name: &str) -> ObjectMeta {
    let annotations = [(AUTOUPDATE.to_owned(), "true".to_owned())].into();
    ObjectMeta { name: Some(name.to_owned()), annotations: Some(annotations), ..ObjectMeta::default() }
}

/// All that these subjects do.
fn everything(subjects: Vec<Subject>) -> PolicyRulesWithSubjects {
    PolicyRulesWithSubjects {
        subjects,
        resource_rules: Some(vec![rule(&["*"], "*", &["*"], &["*"], true)]),
        non_resource_rules: Some(vec![NonResourcePolicyRule {
            verbs: owned(&["*"]),
            non_resource_urls: owned(&["*"]),
        }]),
    }
}

fn rule(verbs: &[&str], group: &str, resources: &[&str], namespaces: &[&str], cluster: bool) -> ResourcePolicyRule {
    ResourcePolicyRule {
        verbs: owned(verbs),
        api_groups: owned(&[group]),
        resources: owned(resources),
        namespaces: Some(owned(namespaces)),
        cluster_scope: cluster.then_some(true),
    }
}

fn group(name: &str) -> Subject {
    Subject { kind: "Group".to_owned(), group: Some(GroupSubject { name: name.to_owned() }), ..Subject::default() }
}

fn user(name: &str) -> Subject {
    Subject { kind: "User".to_owned(), user: Some(UserSubject { name: name.to_owned() }), ..Subject::default() }
}

fn account(namespace: &str, name: &str) -> Subject {
    let account = ServiceAccountSubject { namespace: namespace.to_owned(), name: name.to_owned() };
    Subject { kind: "ServiceAccount".to_owned(), service_account: Some(account), ..Subject::default() }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
