//! The storage contract, held by every store: memory (on paused time), embedded and a real etcd.

mod contract;
mod crash;
mod embedded;
mod etcd;

mod memory {
    use std::sync::Arc;

    use apiserver::storage::Storage;
    use apiserver::storage::memory::Memory;

    async fn fresh() -> ((), Arc<dyn Storage>) {
        ((), Arc::new(Memory::new()))
    }

    crate::contract::contract_tests!(fresh, start_paused = true);
}
