//! The fakes keep the same promises as the real stores.

#[tokio::test]
async fn the_memory_store_keeps_the_contract_of_stores() {
    ports::contract::store(ports::MemoryStore::new).await;
}

#[tokio::test]
async fn the_memory_blobs_keep_the_contract_of_blobs() {
    ports::contract::blobs(ports::MemoryBlobs::new).await;
}
