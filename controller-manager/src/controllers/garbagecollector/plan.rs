//! What to do with an object, given its owners as they are now and its dependents.
//!
//! Entry point: [`plan`]. Pure; invariant: an object goes only if it named an owner and none of its owners is left.

use api::well_known::finalizers::{FOREGROUND, ORPHAN};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::graph::Node;

/// An owner, as a live look found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// It lives, or is being deleted without waiting for its dependents.
    Solid,
    /// There is no such object.
    Absent,
    /// It waits for its dependents to go before it.
    Waiting,
}

/// How dependents are treated when an object is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// They follow later.
    Background,
    /// They go first.
    Foreground,
    /// They stay.
    Orphan,
}

/// What to do with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// It stays as it is.
    Nothing,
    /// It waits for these dependents (uids), which have to be looked at.
    AwaitDependents(Vec<String>),
    /// All who blocked it are gone: it may go.
    DropForegroundFinalizer,
    /// It stays, but these owners (uids) are gone.
    DropOwners(Vec<String>),
    /// It goes; if `unblock`, it first stops holding its owners back, since they wait for each other in a circle.
    Delete {
        /// What becomes of its own dependents.
        policy: Policy,
        /// Whether to set blockOwnerDeletion to false first.
        unblock: bool,
    },
}

/// Decides about one object that was just read: `owners` are its references with what a live look found.
pub fn plan(meta: &ObjectMeta, owners: &[(OwnerReference, Owner)], dependents: &[&Node]) -> Plan {
    let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|name| name == finalizer);
    let deleting = meta.deletion_timestamp.is_some();
    if deleting && has(FOREGROUND) {
        return wait_for(meta.uid.as_deref().unwrap_or_default(), dependents);
    }
    if deleting || owners.is_empty() {
        return Plan::Nothing;
    }
    let of = |wanted: Owner| {
        owners.iter().filter(move |(_, owner)| *owner == wanted).map(|(reference, _)| reference.uid.clone())
    };
    if of(Owner::Solid).next().is_some() {
        let gone: Vec<_> = of(Owner::Absent).chain(of(Owner::Waiting)).collect();
        return if gone.is_empty() { Plan::Nothing } else { Plan::DropOwners(gone) };
    }
    if of(Owner::Waiting).next().is_some() && !dependents.is_empty() {
        return Plan::Delete { policy: Policy::Foreground, unblock: dependents.iter().any(|node| node.foreground) };
    }
    let policy = match (has(ORPHAN), has(FOREGROUND)) {
        (true, _) => Policy::Orphan,
        (false, true) => Policy::Foreground,
        (false, false) => Policy::Background,
    };
    Plan::Delete { policy, unblock: false }
}

fn wait_for(uid: &str, dependents: &[&Node]) -> Plan {
    let blocking: Vec<_> = dependents.iter().filter(|node| node.blocks(uid)).collect();
    if blocking.is_empty() {
        return Plan::DropForegroundFinalizer;
    }
    let idle = blocking.iter().filter(|node| !node.foreground).map(|node| node.identity.uid.clone());
    Plan::AwaitDependents(idle.collect())
}

#[cfg(test)]
mod tests {
    use super::super::graph::{Graph, Work};
    use super::*;
    use crate::pods::fixtures::ago;

    fn owner(uid: &str, block: bool) -> OwnerReference {
        OwnerReference {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: uid.into(),
            uid: uid.into(),
            block_owner_deletion: Some(block),
            controller: None,
        }
    }

    fn meta(uid: &str, owners: &[OwnerReference], finalizer: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            name: Some(uid.into()),
            namespace: Some("default".into()),
            uid: Some(uid.into()),
            owner_references: Some(owners.to_vec()),
            finalizers: finalizer.map(|name| vec![name.to_owned()]),
            deletion_timestamp: finalizer.map(|_| ago(1)),
            ..ObjectMeta::default()
        }
    }

    fn node(uid: &str, owners: &[OwnerReference], finalizer: Option<&str>) -> Node {
        Node::of("v1", "ConfigMap", &meta(uid, owners, finalizer))
    }

    fn delete(uid: &str) -> Work {
        Work::Delete(uid.to_owned())
    }

    #[test]
    fn owners_decide() {
        let (a, b) = (owner("a", false), owner("b", false));
        let child = node("child", &[owner("x", true)], None);
        let busy = node("busy", &[owner("x", true)], Some(FOREGROUND));
        let gone = Plan::Delete { policy: Policy::Background, unblock: false };
        type Case<'a> = (&'static str, Vec<(OwnerReference, Owner)>, Vec<&'a Node>, Plan);
        let table: [Case; 8] = [
            ("nobody's", vec![], vec![], Plan::Nothing),
            ("its owner lives", vec![(a.clone(), Owner::Solid)], vec![], Plan::Nothing),
            ("its owner is gone", vec![(a.clone(), Owner::Absent)], vec![], gone.clone()),
            (
                "one of two is gone",
                vec![(a.clone(), Owner::Solid), (b.clone(), Owner::Absent)],
                vec![],
                Plan::DropOwners(vec!["b".into()]),
            ),
            (
                "one of two waits",
                vec![(a.clone(), Owner::Waiting), (b.clone(), Owner::Solid)],
                vec![],
                Plan::DropOwners(vec!["a".into()]),
            ),
            ("its owner waits", vec![(a.clone(), Owner::Waiting)], vec![], gone),
            (
                "its owner waits, it has dependents",
                vec![(a.clone(), Owner::Waiting)],
                vec![&child],
                Plan::Delete { policy: Policy::Foreground, unblock: false },
            ),
            (
                "a circle",
                vec![(a.clone(), Owner::Waiting)],
                vec![&busy],
                Plan::Delete { policy: Policy::Foreground, unblock: true },
            ),
        ];
        for (what, owners, dependents, expected) in table {
            let references: Vec<_> = owners.iter().map(|(reference, _)| reference.clone()).collect();
            assert_eq!(plan(&meta("x", &references, None), &owners, &dependents), expected, "{what}");
        }
    }

    #[test]
    fn after_the_plan_was_carried_out_nothing_is_planned() {
        let (a, b) = (owner("a", false), owner("b", false));
        let table = [
            vec![(a.clone(), Owner::Absent)],
            vec![(a.clone(), Owner::Solid), (b.clone(), Owner::Absent)],
            vec![(a.clone(), Owner::Waiting), (b.clone(), Owner::Solid)],
            vec![(a, Owner::Waiting), (b, Owner::Absent)],
        ];
        for owners in table {
            let references: Vec<_> = owners.iter().map(|(reference, _)| reference.clone()).collect();
            let mut after = meta("x", &references, None);
            let left = match plan(&after, &owners, &[]) {
                Plan::DropOwners(gone) => owners.into_iter().filter(|(owner, _)| !gone.contains(&owner.uid)).collect(),
                Plan::Delete { .. } => {
                    after.deletion_timestamp = Some(ago(0));
                    owners
                }
                other => panic!("planned {other:?}"),
            };
            assert_eq!(plan(&after, &left, &[]), Plan::Nothing);
        }
    }

    #[test]
    fn a_foreground_deletion_waits_for_those_who_block() {
        let x = meta("x", &[], Some(FOREGROUND));
        let blocking = node("b", &[owner("x", true)], None);
        let going = node("g", &[owner("x", true)], Some(FOREGROUND));
        let free = node("f", &[owner("x", false)], None);
        assert_eq!(plan(&x, &[], &[&blocking, &going, &free]), Plan::AwaitDependents(vec!["b".into()]));
        assert_eq!(plan(&x, &[], &[&free]), Plan::DropForegroundFinalizer);
    }

    #[test]
    fn what_is_being_deleted_already_is_left_alone() {
        let x = meta("x", &[owner("a", false)], Some("x.example.org/hold"));
        assert_eq!(plan(&x, &[(owner("a", false), Owner::Absent)], &[]), Plan::Nothing);
    }

    #[test]
    fn the_graph_says_what_to_look_at() {
        let mut graph = Graph::default();
        assert_eq!(
            graph.upsert(node("child", &[owner("a", true)], None)),
            [delete("a")],
            "an unknown owner is checked"
        );
        assert_eq!(graph.upsert(node("a", &[], None)), [delete("a")], "the guess is replaced");
        assert_eq!(graph.upsert(node("second", &[owner("a", false)], None)), []);
        assert_eq!(graph.upsert(node("a", &[], Some(FOREGROUND))), [delete("a")]);
        assert_eq!(graph.upsert(node("child", &[owner("a", false)], None)), [delete("a")], "it no longer blocks");
        assert_eq!(graph.remove("second"), [delete("a")], "the owner waits for it");
        assert_eq!(graph.remove("a"), [delete("child")], "the owner is gone");
        assert_eq!(graph.mark_absent("a"), [delete("child")]);
        assert_eq!(graph.upsert(node("late", &[owner("a", false)], None)), [delete("late")], "it came too late");
        assert_eq!(graph.upsert(node("o", &[], Some(ORPHAN))), [Work::Orphan("o".into())]);
    }
}
