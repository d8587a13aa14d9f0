//! An axum application behind a function URL by way of `lambda_http`.

use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::HashMap;

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    let router = Router::new().route("/items/{id}", get(item)).route("/upper", post(upper));
    lambda_http::run(router).await
}

async fn item(Path(id): Path<String>, Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    Json(json!({"id": id, "q": query.get("q")}))
}

async fn upper(body: String) -> (StatusCode, HeaderMap, String) {
    let cookie = [(axum::http::header::SET_COOKIE, "seen=yes".parse().expect("a header"))];
    (StatusCode::CREATED, HeaderMap::from_iter(cookie), body.to_uppercase())
}
