//! How early clients look in a group and version: upstream's table of APIService priorities, by which discovery is ordered.
//!
//! Reference: <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/api-service-v1/>.

/// Priorities of what a CustomResourceDefinition brings.
pub const CUSTOM: Priority = Priority { group: 1000, version: 100 };
/// The group that upstream's aggregator serves itself: first of all, and without an APIService.
pub const FIRST: &str = "apiregistration.k8s.io";

/// Higher is earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority {
    /// Of the group among groups.
    pub group: i32,
    /// Of the version in its group.
    pub version: i32,
}

/// Group, version, priority of the group, priority of the version.
const TABLE: [(&str, &str, i32, i32); 22] = [
    ("", "v1", 18_000, 1),
    ("apps", "v1", 17_800, 15),
    ("events.k8s.io", "v1", 17_750, 15),
    ("authentication.k8s.io", "v1", 17_700, 15),
    ("authorization.k8s.io", "v1", 17_600, 15),
    ("autoscaling", "v1", 17_500, 15),
    ("autoscaling", "v2", 17_500, 30),
    ("batch", "v1", 17_400, 15),
    ("certificates.k8s.io", "v1", 17_300, 15),
    ("networking.k8s.io", "v1", 17_200, 15),
    ("policy", "v1", 17_100, 15),
    ("rbac.authorization.k8s.io", "v1", 17_000, 15),
    ("storage.k8s.io", "v1", 16_800, 15),
    ("apiextensions.k8s.io", "v1", 16_700, 15),
    ("admissionregistration.k8s.io", "v1", 16_700, 15),
    ("scheduling.k8s.io", "v1", 16_600, 15),
    ("coordination.k8s.io", "v1", 16_500, 15),
    ("node.k8s.io", "v1", 16_300, 15),
    ("discovery.k8s.io", "v1", 16_200, 15),
    ("resource.k8s.io", "v1", 16_200, 20),
    ("flowcontrol.apiserver.k8s.io", "v1", 16_100, 21),
    ("internal.apiserver.k8s.io", "v1alpha1", 16_000, 9),
];

/// The priority of a group and version that upstream has; none for others.
pub fn of(group: &str, version: &str) -> Option<Priority> {
    let found = TABLE.iter().find(|row| row.0 == group && row.1 == version)?;
    Some(Priority { group: found.2, version: found.3 })
}

/// The priority of a group.
pub fn of_group(group: &str) -> i32 {
    if group == FIRST {
        return i32::MAX;
    }
    TABLE.iter().find(|row| row.0 == group).map_or(CUSTOM.group, |row| row.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown() {
        assert_eq!(of("autoscaling", "v2"), Some(Priority { group: 17_500, version: 30 }));
        assert_eq!(of("autoscaling", "v3"), None);
        let groups = [FIRST, "apps", "batch", "flowcontrol.apiserver.k8s.io", "example.org"];
        assert!(groups.windows(2).all(|pair| of_group(pair[0]) > of_group(pair[1])));
    }
}
