//! How little of what makes a node say that it is under pressure: upstream's `--eviction-hard`.
//!
//! Entry: [`Thresholds`]; pure. Source: the documentation's page "Node-pressure Eviction". Invariant: a signal that is
//! not named has no threshold, as upstream has it.

use std::collections::BTreeMap;
use std::str::FromStr;

use api::Quantity;

/// What can run short here.
const SIGNALS: [&str; 4] = ["memory.available", "nodefs.available", "nodefs.inodesFree", "pid.available"];

/// The least of something that must be free.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Least {
    Amount(u128),
    /// Of all there is.
    Percent(f64),
}

/// The thresholds of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds(BTreeMap<&'static str, Least>);

impl Default for Thresholds {
    /// Upstream's.
    fn default() -> Self {
        Self(BTreeMap::from([
            ("memory.available", Least::Amount(100 << 20)),
            ("nodefs.available", Least::Percent(10.0)),
            ("nodefs.inodesFree", Least::Percent(5.0)),
        ]))
    }
}

impl Thresholds {
    /// Whether so little of `all` is free that the node is under pressure.
    pub(super) fn is_short(&self, signal: &str, free: u64, all: u64) -> bool {
        match self.0.get(signal) {
            None => false,
            Some(Least::Amount(least)) => u128::from(free) < *least,
            // Rounding does not matter for a share of a machine.
            #[expect(clippy::cast_precision_loss)]
            Some(Least::Percent(least)) => all > 0 && (free as f64) < all as f64 * least / 100.0,
        }
    }
}

impl FromStr for Thresholds {
    type Err = String;

    /// `memory.available<100Mi,nodefs.available<10%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (signal, least) = part
                .split_once('<')
                .ok_or_else(|| format!("invalid eviction threshold syntax {part:?}, expected <signal><<value>"))?;
            let signal = SIGNALS.iter().find(|known| **known == signal).ok_or_else(|| {
                format!("unsupported eviction signal {signal:?}: known here are {}", SIGNALS.join(", "))
            })?;
            if all.insert(*signal, parse(least)?).is_some() {
                return Err(format!("duplicate eviction signal {signal:?}"));
            }
        }
        Ok(Self(all))
    }
}

fn parse(text: &str) -> Result<Least, String> {
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.parse().map_err(|_| format!("{text:?} is not a percentage"))?;
        return match (0.0..=100.0).contains(&percent) {
            true => Ok(Least::Percent(percent)),
            false => Err(format!("eviction percentage threshold must be between 0% and 100%: {text}")),
        };
    }
    let amount = Quantity::parse(text).map_err(|error| format!("{text:?}: {error}"))?;
    u128::try_from(amount.value())
        .map(Least::Amount)
        .map_err(|_| format!("eviction threshold must not be negative: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_as_upstream_writes_them() {
        let some: Thresholds = "memory.available<100Mi, nodefs.available<1%".parse().expect("valid");
        for (signal, free, all, short) in [
            ("memory.available", 100 << 20, 8 << 30, false),
            ("memory.available", (100 << 20) - 1, 8 << 30, true),
            ("nodefs.available", 1, 100, false),
            ("nodefs.available", 0, 100, true),
            ("nodefs.available", 0, 0, false),
            ("pid.available", 0, 100, false),
        ] {
            assert_eq!(some.is_short(signal, free, all), short, "{signal} {free} of {all}");
        }
        assert!(!"".parse::<Thresholds>().expect("none").is_short("memory.available", 0, 1));
        assert!(Thresholds::default().is_short("nodefs.available", 9, 100));
        for wrong in [
            "memory.available",
            "swap.available<1Mi",
            "nodefs.available<101%",
            "memory.available<-1",
            "memory.available<x",
            "pid.available<1,pid.available<2",
        ] {
            assert!(wrong.parse::<Thresholds>().is_err(), "{wrong}");
        }
    }
}
