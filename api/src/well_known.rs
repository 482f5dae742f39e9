//! Names that Kubernetes gives a meaning: labels, annotations, taints, finalizers, namespaces, users and groups.

/// The version of Kubernetes that we present.
pub const KUBERNETES_VERSION: &str = "v1.36.2";
/// Its major part.
pub const KUBERNETES_MAJOR: &str = "1";
/// Its minor part.
pub const KUBERNETES_MINOR: &str = "36";

/// Labels.
pub mod labels {
    /// The host name of a node.
    pub const HOSTNAME: &str = "kubernetes.io/hostname";
    /// The operating system of a node.
    pub const OS: &str = "kubernetes.io/os";
    /// The architecture of a node.
    pub const ARCH: &str = "kubernetes.io/arch";
    /// The operating system of a node, in its old form.
    pub const BETA_OS: &str = "beta.kubernetes.io/os";
    /// The architecture of a node, in its old form.
    pub const BETA_ARCH: &str = "beta.kubernetes.io/arch";
    /// The zone of a node.
    pub const ZONE: &str = "topology.kubernetes.io/zone";
    /// The region of a node.
    pub const REGION: &str = "topology.kubernetes.io/region";
    /// The name of a namespace, on the namespace itself.
    pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
    /// The service that an EndpointSlice belongs to.
    pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
    /// Who keeps an EndpointSlice.
    pub const ENDPOINTSLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
    /// Do not mirror these Endpoints into slices.
    pub const ENDPOINTSLICE_SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
    /// Who keeps these Endpoints.
    pub const ENDPOINTS_MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
    /// A service without an address of its own.
    pub const HEADLESS: &str = "service.kubernetes.io/headless";
    /// The defaults that RBAC starts with.
    pub const RBAC_DEFAULTS: &str = "kubernetes.io/bootstrapping";
}

/// Annotations.
pub mod annotations {
    /// What kubectl apply sent last.
    pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    /// The end of the initial events of a watch-list.
    pub const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
    /// The source of a pod: file, http or api.
    pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
    /// The hash of a static pod's manifest.
    pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
    /// The mirror of a static pod.
    pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
    /// When the kubelet first saw the pod.
    pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
    /// The ServiceAccount of a token Secret.
    pub const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
    /// The uid of the ServiceAccount of a token Secret.
    pub const SERVICE_ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
    /// The preferred container of kubectl logs and exec.
    pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
    /// How much it costs to delete this pod.
    pub const POD_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    /// When the endpoints of a service last changed because of a pod.
    pub const ENDPOINTS_LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";
    /// Endpoints cut to 1,000 addresses.
    pub const ENDPOINTS_OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
    /// The class of a claim or volume, in its old form.
    pub const STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
    /// Whether RBAC defaults are kept up to date.
    pub const RBAC_AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
}

/// Taints.
pub mod taints {
    /// The node reported that it is not ready.
    pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
    /// The node stopped reporting.
    pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
    /// The node is cordoned.
    pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
    /// The node is short of memory.
    pub const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
    /// The node is short of disk.
    pub const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
    /// The node is short of process ids.
    pub const PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
    /// The node has no network.
    pub const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";
    /// New pods are not placed here.
    pub const NO_SCHEDULE: &str = "NoSchedule";
    /// New pods are placed elsewhere if possible.
    pub const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";
    /// Pods are evicted.
    pub const NO_EXECUTE: &str = "NoExecute";
}

/// Finalizers.
pub mod finalizers {
    /// Dependents go first.
    pub const FOREGROUND: &str = "foregroundDeletion";
    /// Dependents stay.
    pub const ORPHAN: &str = "orphan";
    /// The finalizer in the spec of a namespace.
    pub const KUBERNETES: &str = "kubernetes";
    /// A claim stays while pods use it.
    pub const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
    /// A volume stays while it is bound.
    pub const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
    /// A range of service addresses stays while it is the only one of an address in use.
    pub const RANGE_PROTECTION: &str = "networking.k8s.io/service-cidr-finalizer";
}

/// Namespaces that every cluster has.
pub mod namespaces {
    /// Where objects go that name none.
    pub const DEFAULT: &str = "default";
    /// The cluster's own.
    pub const SYSTEM: &str = "kube-system";
    /// Readable by all.
    pub const PUBLIC: &str = "kube-public";
    /// Heartbeats of nodes.
    pub const NODE_LEASE: &str = "kube-node-lease";
    /// All of them, in the order they are created.
    pub const ALL: [&str; 4] = [SYSTEM, NODE_LEASE, PUBLIC, DEFAULT];
}

/// Users.
pub mod users {
    /// Who did not say who they are.
    pub const ANONYMOUS: &str = "system:anonymous";
    /// The API server itself.
    pub const APISERVER: &str = "system:apiserver";
    /// The scheduler.
    pub const SCHEDULER: &str = "system:kube-scheduler";
    /// The controller-manager.
    pub const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
    /// The service proxy.
    pub const PROXY: &str = "system:kube-proxy";
    /// What the name of a node's user starts with.
    pub const NODE_PREFIX: &str = "system:node:";
    /// What the name of a ServiceAccount's user starts with.
    pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
}

/// Groups.
pub mod groups {
    /// May do everything.
    pub const MASTERS: &str = "system:masters";
    /// Everyone who said who they are.
    pub const AUTHENTICATED: &str = "system:authenticated";
    /// Everyone who did not.
    pub const UNAUTHENTICATED: &str = "system:unauthenticated";
    /// The nodes.
    pub const NODES: &str = "system:nodes";
    /// All ServiceAccounts.
    pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
    /// What the group of a namespace's ServiceAccounts starts with.
    pub const SERVICE_ACCOUNTS_PREFIX: &str = "system:serviceaccounts:";
    /// May read metrics and health.
    pub const MONITORING: &str = "system:monitoring";
}

/// Reasons of a Status.
pub mod reasons {
    /// The namespace is being deleted (a cause of a 403).
    pub const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";
    /// A field belongs to another manager (a cause of a 409).
    pub const FIELD_MANAGER_CONFLICT: &str = "FieldManagerConflict";
    /// A read asked for a future revision (a cause of a 504).
    pub const RESOURCE_VERSION_TOO_LARGE: &str = "ResourceVersionTooLarge";
    /// The exit code of a command (a cause of an exec's Status).
    pub const EXIT_CODE: &str = "ExitCode";
    /// A command ended with another code than 0.
    pub const NON_ZERO_EXIT_CODE: &str = "NonZeroExitCode";
}

/// The name of the scheduler that pods use unless they name another.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";
/// The ConfigMap with the cluster's CA in every namespace.
pub const ROOT_CA_CONFIG_MAP: &str = "kube-root-ca.crt";
/// The ServiceAccount in every namespace.
pub const DEFAULT_SERVICE_ACCOUNT: &str = "default";
/// Where a pod finds its token.
pub const SERVICE_ACCOUNT_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
