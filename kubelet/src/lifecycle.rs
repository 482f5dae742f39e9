//! Where a pod is in its life on this node, decided from facts alone.
//!
//! Entry: [`next`]. Invariant: a pod goes forward only: run, terminate, clean, then rest (its record stays) or leave
//! (its record is deleted); the same facts always give the same stage, so a restarted kubelet continues where it was.

/// What a pod's worker does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Make and keep it as its spec says.
    Run,
    /// Stop everything, leaving each container this many seconds.
    Terminate { grace_seconds: i64 },
    /// Everything has stopped: remove sandboxes, containers, volumes.
    Clean,
    /// Stopped for good; only the record in the API remains.
    Rest,
    /// Nothing is left here: delete the record from the API.
    Leave,
}

/// What is known about a pod when its next stage is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Refused at admission: nothing of it may start.
    pub rejected: bool,
    /// Its deletion was asked for, with this grace period.
    pub deletion_grace: Option<i64>,
    /// Its record is gone from the API (or its manifest from the directory).
    pub orphaned: bool,
    /// Its record already says Succeeded or Failed.
    pub terminal: bool,
    /// Its active deadline has passed.
    pub past_deadline: bool,
    /// All its containers have ended and none is to be started again.
    pub completed: bool,
    /// The runtime has no process and no live sandbox of it.
    pub stopped: bool,
    /// The runtime has no container and no sandbox of it, and no volume of it is mounted.
    pub clean: bool,
    /// `spec.terminationGracePeriodSeconds`.
    pub spec_grace: i64,
}

/// The next stage of a pod.
pub fn next(facts: &Facts) -> Stage {
    let leaving = facts.orphaned || facts.deletion_grace.is_some();
    let ending = leaving || facts.rejected || facts.terminal || facts.past_deadline || facts.completed;
    if !ending {
        return Stage::Run;
    }
    if !facts.stopped {
        return Stage::Terminate { grace_seconds: grace(facts) };
    }
    if !leaving {
        return Stage::Rest;
    }
    if !facts.clean {
        return Stage::Clean;
    }
    Stage::Leave
}

/// A record that vanished means a forced deletion, whose grace period was 0; Kubernetes still lets such containers
/// have one second.
fn grace(facts: &Facts) -> i64 {
    match facts.deletion_grace {
        _ if facts.orphaned => 1,
        Some(seconds) => seconds.max(1),
        None => facts.spec_grace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages() {
        let base = Facts { spec_grace: 30, stopped: true, clean: true, ..Facts::default() };
        let running = Facts { stopped: false, clean: false, ..base.clone() };
        let dead = Facts { clean: false, ..base.clone() };
        let table = [
            ("new", base.clone(), Stage::Run),
            ("running", running.clone(), Stage::Run),
            ("deleted", Facts { deletion_grace: Some(5), ..running.clone() }, Stage::Terminate { grace_seconds: 5 }),
            (
                "deleted now",
                Facts { deletion_grace: Some(0), ..running.clone() },
                Stage::Terminate { grace_seconds: 1 },
            ),
            ("vanished", Facts { orphaned: true, ..running.clone() }, Stage::Terminate { grace_seconds: 1 }),
            ("stopped", Facts { deletion_grace: Some(5), ..dead.clone() }, Stage::Clean),
            ("cleaned", Facts { deletion_grace: Some(5), ..base.clone() }, Stage::Leave),
            ("vanished, cleaned", Facts { orphaned: true, ..base.clone() }, Stage::Leave),
            ("past deadline", Facts { past_deadline: true, ..running.clone() }, Stage::Terminate { grace_seconds: 30 }),
            (
                "completed, sandbox up",
                Facts { completed: true, ..running.clone() },
                Stage::Terminate { grace_seconds: 30 },
            ),
            ("completed", Facts { completed: true, ..dead.clone() }, Stage::Rest),
            ("rejected", Facts { rejected: true, ..base.clone() }, Stage::Rest),
            ("failed by another", Facts { terminal: true, ..running }, Stage::Terminate { grace_seconds: 30 }),
            ("failed, then deleted", Facts { terminal: true, deletion_grace: Some(0), ..base }, Stage::Leave),
        ];
        for (name, facts, expected) in table {
            assert_eq!(next(&facts), expected, "{name}");
        }
    }
}
