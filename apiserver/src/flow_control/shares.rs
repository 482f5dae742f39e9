//! How the server's seats are shared out among priority levels. Entry points: [`bounds`], [`allocate`].
//!
//! Source: KEP-1040, "Dispatching, borrowing". A level has a nominal number of seats by its shares; of these it lends some, and it
//! may borrow up to a limit. Unlike upstream, which looks at the demand of the last ten seconds, seats are lent at the moment
//! when somebody would have to wait: nothing runs while nobody asks.

/// What a level's configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Nominal shares.
    pub shares: u32,
    /// Percentage of the nominal seats that others may borrow.
    pub lendable_percent: u32,
    /// Percentage of the nominal seats that may be borrowed; none is no limit.
    pub borrowing_percent: Option<u32>,
}

/// Seats of a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// By its shares.
    pub nominal: u32,
    /// What it never lends.
    pub least: u32,
    /// The most with what it borrows.
    pub most: u32,
}

/// The seats of levels that share `total`.
pub fn bounds(total: u32, levels: &[Terms]) -> Vec<Bounds> {
    let sum: u64 = levels.iter().map(|level| u64::from(level.shares)).sum();
    let of = |level: &Terms| {
        let nominal = (u64::from(total) * u64::from(level.shares)).div_ceil(sum.max(1));
        let nominal = u32::try_from(nominal).unwrap_or(u32::MAX);
        let percent =
            |percent: u32| u32::try_from((u64::from(nominal) * u64::from(percent) + 50) / 100).unwrap_or(u32::MAX);
        let most = level.borrowing_percent.map_or(total, |limit| nominal.saturating_add(percent(limit)));
        Bounds { nominal, least: nominal.saturating_sub(percent(level.lendable_percent)), most: most.max(nominal) }
    };
    levels.iter().map(of).collect()
}

/// The seats that each level has now, given what it could use: in proportion to that, within its bounds.
pub fn allocate(total: u32, levels: &[(Bounds, u32)]) -> Vec<u32> {
    let at = |fraction: f64, (bounds, demand): &(Bounds, u32)| {
        let target = f64::from((*demand).max(bounds.least).max(1));
        (fraction * target).clamp(f64::from(bounds.least), f64::from(bounds.most.max(bounds.least)))
    };
    let sum = |fraction: f64| levels.iter().map(|level| at(fraction, level)).sum::<f64>();
    let (mut low, mut high) = (0.0, f64::from(total.max(1)));
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if sum(middle) > f64::from(total) { high = middle } else { low = middle }
    }
    levels.iter().map(|level| at(low, level).round() as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(shares: u32, lendable_percent: u32) -> Terms {
        Terms { shares, lendable_percent, borrowing_percent: None }
    }

    #[test]
    fn seats_by_shares() {
        let levels = [terms(30, 33), terms(100, 90), terms(5, 0), terms(0, 0)];
        let found = bounds(600, &levels);
        assert_eq!(found[0], Bounds { nominal: 134, least: 90, most: 600 });
        assert_eq!(found[1], Bounds { nominal: 445, least: 44, most: 600 });
        assert_eq!(found[2], Bounds { nominal: 23, least: 23, most: 600 });
        assert_eq!(found[3], Bounds { nominal: 0, least: 0, most: 600 });
        let jailed = Terms { borrowing_percent: Some(50), ..terms(100, 0) };
        assert_eq!(bounds(100, &[jailed])[0].most, 150);
    }

    #[test]
    fn idle_levels_lend_and_busy_ones_share() {
        let levels = bounds(600, &[terms(100, 50), terms(100, 0), terms(100, 100)]);
        let allocated = |demands: [u32; 3]| {
            let asked: Vec<_> = levels.iter().copied().zip(demands).collect();
            allocate(600, &asked)
        };
        let one = allocated([500, 0, 0]);
        assert!(one[0] >= 395 && one[1] == 200, "{one:?}");
        let both = allocated([500, 0, 500]);
        assert!(both[0].abs_diff(both[2]) <= 1 && both[1] == 200, "{both:?}");
        assert!(allocated([0, 0, 0]).iter().sum::<u32>().abs_diff(600) <= 3);
        assert!(allocated([0, 300, 0])[1] >= 300);
    }
}
