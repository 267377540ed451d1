//! What is counted of pulls.

use anyhow::{Result, ensure};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::image::{Entry, Image, Layer};
use berth_e2e::place;
use berth_e2e::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ADDRESS: &str = "127.0.0.1:9810";

async fn metrics() -> Result<String> {
    let mut connection = TcpStream::connect(ADDRESS).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {ADDRESS}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(answer)
}

#[test]
fn pulls_are_counted_by_how_they_ended() {
    place::native(async |place| {
        let registry = Registry::start(&place).await?;
        let layer = |name: &str| Layer::new().with(Entry::file(name, name));
        let base = Image::from_scratch().layer(layer("base"));
        let one = base.clone().layer(layer("one")).build()?;
        let two = base.layer(layer("two")).build()?;
        let (one, two) = (registry.push("one:1", &one).await?, registry.push("two:1", &two).await?);
        let setup = Setup::new(Engine::Berthd).host(registry.host(), registry.upstream());
        let setup = setup.config(&format!("[metrics]\nlisten = \"{ADDRESS}\"\n"));
        let daemon = setup.start(&place).await?;
        let client = daemon.client().await?;
        client.pull(&one).await?;
        client.pull(&two).await?;
        for _ in 0..2 {
            assert!(client.pull(&registry.reference("none:1")).await.is_err());
        }
        assert!(client.pull("127.0.0.1:1/gone:1").await.is_err());

        let text = metrics().await?;
        let host = registry.host();
        for line in [
            "berth_image_pulls_in_flight 0".to_owned(),
            "berth_image_pull_duration_seconds_count 2".to_owned(),
            "berth_image_pull_layers_total{how=\"fetched\"} 3".to_owned(),
            "berth_image_pull_layers_total{how=\"reused\"} 1".to_owned(),
            format!("berth_image_pull_failures_total{{class=\"not_found\",registry=\"{host}\"}} 2"),
            "berth_image_pull_failures_total{class=\"unavailable\",registry=\"127.0.0.1:1\"} 1"
                .to_owned(),
        ] {
            assert!(text.contains(&line), "no {line} in {text}");
        }
        Ok(())
    });
}
