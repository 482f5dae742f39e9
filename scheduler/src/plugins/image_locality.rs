//! Prefers nodes that have the pod's images; an image that few nodes have counts less, so that pods do not pile up.

use std::sync::Arc;

use super::{ClusterChange, Cure, Cycle, MAX_SCORE, Plugin};
use crate::node_info::NodeInfo;

const MB: i64 = 1024 * 1024;
const LEAST: i64 = 23 * MB;
const MOST_PER_CONTAINER: i64 = 1000 * MB;

pub(super) struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn score(&self, cycle: &Cycle<'_>, nodes: &[&Arc<NodeInfo>]) -> Option<Vec<i64>> {
        let spec = cycle.pod.pod.spec.as_ref()?;
        let wanted: Vec<String> = spec.containers.iter().filter_map(|c| c.image.as_deref()).map(normalized).collect();
        let total = i64::try_from(nodes.len()).unwrap_or(i64::MAX).max(1);
        let mut sums = vec![0; nodes.len()];
        for image in &wanted {
            let sizes: Vec<i64> = nodes.iter().map(|node| size(node, image)).collect();
            let having = i64::try_from(sizes.iter().filter(|size| **size > 0).count()).unwrap_or(i64::MAX);
            if having == 0 {
                continue;
            }
            for (sum, size) in sums.iter_mut().zip(sizes) {
                *sum += size / total * having;
            }
        }
        if sums.iter().all(|sum| *sum == 0) {
            return None;
        }
        let most = MOST_PER_CONTAINER * i64::try_from(wanted.len()).unwrap_or(1).max(1);
        Some(sums.into_iter().map(|sum| MAX_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)).collect())
    }

    fn cured_by(&self, _: &ClusterChange) -> Cure {
        Cure::Nowhere
    }
}

fn size(node: &NodeInfo, image: &str) -> i64 {
    let status = node.node.as_ref().and_then(|node| node.status.as_ref());
    let images = status.and_then(|status| status.images.as_deref()).unwrap_or_default();
    let found = images.iter().find(|i| i.names.iter().flatten().any(|name| name == image));
    found.and_then(|image| image.size_bytes).unwrap_or_default()
}

/// An image without tag means its latest.
fn normalized(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}
