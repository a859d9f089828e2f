//! Which events the file has, where a trace has more than it should.
//!
//! Events come one by one and nobody knows how many there will be. So all are held until there is no more room.
//! Then every other minor one goes, and from there on only every other is taken; next time every fourth is,
//! and so on. When hardly any minor ones are left, it goes on with the ordinary ones.

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Rank {
    /// Repeats what others say.
    Minor,
    /// One of those that text shows.
    Plain,
    /// A verdict cites it, or the launcher tells it.
    Cited,
}

/// One in so many minor events at the least; fewer are none at all.
const SPARSEST: u64 = 1 << 6;

/// Of the events of one rank, which are held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// All that there were.
    pub(super) seen: u64,
    /// One in so many is held.
    pub(super) one_in: u64,
}

impl Share {
    fn takes(self, ordinal: u64) -> bool {
        self.one_in != 0 && ordinal.is_multiple_of(self.one_in)
    }
}

/// Something with a rank, and the position among those of its rank.
pub(super) trait Ranked {
    fn rank(&self) -> Rank;
    fn ordinal(&self) -> u64;
}

/// Holds no more than `most`.
#[derive(Debug)]
pub(super) struct Chosen<T> {
    held: Vec<T>,
    shares: [Share; 3],
    most: usize,
}

impl<T: Ranked> Chosen<T> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            held: Vec::new(),
            shares: [Share { seen: 0, one_in: 1 }; 3],
            most,
        }
    }

    /// Takes one of that rank, if it is among those to hold: `make` gets its position.
    pub(super) fn offer(&mut self, rank: Rank, make: impl FnOnce(u64) -> T) {
        let share = &mut self.shares[rank as usize];
        let ordinal = share.seen;
        share.seen += 1;
        if !share.takes(ordinal) {
            return;
        }
        self.held.push(make(ordinal));
        // Room for more than a few, so that this is done seldom.
        if self.held.len() > self.most {
            while self.held.len() > self.most / 4 * 3 && self.thin() {}
        }
    }

    /// Lets half of those go that matter least; false if there is nothing to let go.
    fn thin(&mut self) -> bool {
        for rank in [Rank::Minor, Rank::Plain, Rank::Cited] {
            let share = &mut self.shares[rank as usize];
            if share.one_in == 0 || share.seen == 0 {
                continue;
            }
            share.one_in = match share.one_in {
                SPARSEST.. if rank == Rank::Minor => 0,
                one_in => one_in.saturating_mul(2),
            };
            let share = *share;
            let all = self.held.len();
            self.held
                .retain(|one| one.rank() != rank || share.takes(one.ordinal()));
            if self.held.len() < all {
                return true;
            }
        }
        false
    }

    pub(super) fn held(&self) -> &[T] {
        &self.held
    }

    pub(super) fn share(&self, rank: Rank) -> Share {
        self.shares[rank as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct One(Rank, u64);

    impl Ranked for One {
        fn rank(&self) -> Rank {
            self.0
        }
        fn ordinal(&self) -> u64 {
            self.1
        }
    }

    fn held(chosen: &Chosen<One>, rank: Rank) -> Vec<u64> {
        let of_rank = chosen.held().iter().filter(|one| one.0 == rank);
        of_rank.map(|one| one.1).collect()
    }

    #[test]
    fn all_are_held_while_there_is_room() {
        let mut chosen = Chosen::new(100);
        for _ in 0..50 {
            chosen.offer(Rank::Minor, |ordinal| One(Rank::Minor, ordinal));
            chosen.offer(Rank::Plain, |ordinal| One(Rank::Plain, ordinal));
        }
        assert_eq!(chosen.held().len(), 100);
    }

    #[test]
    fn minor_ones_go_first_and_evenly() {
        let mut chosen = Chosen::new(100);
        for _ in 0..80 {
            chosen.offer(Rank::Minor, |ordinal| One(Rank::Minor, ordinal));
        }
        for _ in 0..40 {
            chosen.offer(Rank::Plain, |ordinal| One(Rank::Plain, ordinal));
        }
        assert_eq!(held(&chosen, Rank::Plain).len(), 40);
        let minor = held(&chosen, Rank::Minor);
        let one_in = chosen.share(Rank::Minor).one_in;
        assert_eq!(minor, (0..80).step_by(one_in as usize).collect::<Vec<_>>());
        assert!(chosen.held().len() <= 100);
    }

    #[test]
    fn what_is_cited_outlives_any_mass() {
        let mut chosen = Chosen::new(1000);
        for index in 0..1_000_000u64 {
            let rank = match index % 1000 {
                0 if index < 100_000 => Rank::Cited,
                odd if odd % 2 == 1 => Rank::Minor,
                _ => Rank::Plain,
            };
            chosen.offer(rank, |ordinal| One(rank, ordinal));
            assert!(chosen.held().len() <= 1000);
        }
        assert_eq!(held(&chosen, Rank::Cited).len(), 100);
        assert!(held(&chosen, Rank::Plain).len() > 100);
        assert!(held(&chosen, Rank::Minor).is_empty());
    }
}
