//! Pushing: the distribution API's monolithic upload, by plain HTTP, with no client of ours.

use anyhow::{Context, Result, ensure};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Client, RequestBuilder, Response};

use super::Registry;
use crate::image::{Blob, Image, Index};

impl Registry {
    /// Pushes `image` under `name`, which is `repository:tag`, and answers its whole reference.
    pub async fn push(&self, name: &str, image: &Image) -> Result<String> {
        let target = Target::new(self, name)?;
        target.blobs(image).await?;
        target.manifest(target.tag, &image.manifest).await?;
        Ok(self.reference(name))
    }

    /// Pushes every image of `index`, then the index itself under `name`.
    pub async fn push_index(&self, name: &str, index: &Index) -> Result<String> {
        let target = Target::new(self, name)?;
        for image in &index.images {
            target.blobs(image).await?;
            target.manifest(&image.manifest.digest, &image.manifest).await?;
        }
        target.manifest(target.tag, &index.manifest).await?;
        Ok(self.reference(name))
    }

    /// The manifest that the registry has under `name`: its bytes, as a puller gets them.
    pub async fn manifest(&self, name: &str) -> Result<Vec<u8>> {
        let target = Target::new(self, name)?;
        let url = target.url(&format!("manifests/{}", target.tag));
        let accept = "application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.oci.image.index.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json";
        let response = target.send(target.client.get(url).header("Accept", accept)).await?;
        Ok(response.bytes().await.context("read a manifest")?.to_vec())
    }
}

struct Target<'a> {
    registry: &'a Registry,
    client: Client,
    repository: &'a str,
    tag: &'a str,
}

impl<'a> Target<'a> {
    fn new(registry: &'a Registry, name: &'a str) -> Result<Self> {
        let (repository, tag) = name.split_once(':').with_context(|| format!("a tag in {name}"))?;
        Ok(Self { registry, client: client(registry)?, repository, tag })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.registry.upstream.url, self.repository)
    }

    async fn send(&self, mut request: RequestBuilder) -> Result<Response> {
        if let Some(login) = self.registry.login {
            request = request.basic_auth(login.user, Some(login.password));
        }
        let response = request.send().await.context("ask the registry")?;
        let (url, status) = (response.url().clone(), response.status());
        if !status.is_success() {
            let text = response.text().await.unwrap_or_default();
            anyhow::bail!("{url} answered {status}: {text}");
        }
        Ok(response)
    }

    async fn blobs(&self, image: &Image) -> Result<()> {
        for blob in image.layers.iter().chain([&image.config]) {
            self.blob(blob).await.with_context(|| format!("push blob {}", blob.digest))?;
        }
        Ok(())
    }

    async fn blob(&self, blob: &Blob) -> Result<()> {
        let started = self.send(self.client.post(self.url("blobs/uploads/"))).await?;
        let location = started.headers().get(LOCATION).context("a location to upload to")?;
        let mut url = started.url().join(location.to_str()?)?;
        url.query_pairs_mut().append_pair("digest", &blob.digest);
        let upload = self.client.put(url).header(CONTENT_TYPE, "application/octet-stream");
        let stored = self.send(upload.body(blob.bytes.to_vec())).await?;
        ensure!(stored.status() == 201, "a blob answered with {}", stored.status());
        Ok(())
    }

    async fn manifest(&self, tag: &str, manifest: &Blob) -> Result<()> {
        let url = self.url(&format!("manifests/{tag}"));
        let put = self.client.put(url).header(CONTENT_TYPE, manifest.media_type);
        self.send(put.body(manifest.bytes.to_vec()))
            .await
            .with_context(|| format!("push manifest {}", manifest.digest))?;
        Ok(())
    }
}

fn client(registry: &Registry) -> Result<Client> {
    // A second call finds it installed, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder().no_proxy();
    if let Some(ca) = &registry.upstream.ca {
        let pem = std::fs::read(ca).with_context(|| format!("read {}", ca.display()))?;
        let ca = reqwest::Certificate::from_pem(&pem).context("parse the authority")?;
        builder = builder.tls_certs_only([ca]);
    }
    builder.build().context("make an HTTP client")
}
