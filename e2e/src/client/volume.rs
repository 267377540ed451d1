//! Images as volumes: what the client's types do not know yet, sent beside what they do.
//!
//! Messages that follow each other are one message (protobuf, "Last One Wins": lists grow, and
//! messages merge). So a request is written as the client's types have it, and what is newer behind it.

use k8s_cri::v1::{CreateContainerRequest, CreateContainerResponse, ImageSpec};
use prost::Message;
use prost::bytes::BufMut;
use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::{ProstCodec, ProstDecoder};

use super::Client;

/// A mount of an image, as CRI 1.33 and later have it.
#[derive(Clone, PartialEq, Message)]
pub struct ImageMount {
    /// Where it is mounted.
    #[prost(string, tag = "1")]
    pub container_path: String,
    /// A path of the node, which none should have.
    #[prost(string, tag = "2")]
    pub host_path: String,
    /// The image.
    #[prost(message, optional, tag = "9")]
    pub image: Option<ImageSpec>,
    /// A path in the image.
    #[prost(string, tag = "10")]
    pub image_sub_path: String,
    /// Options of the mount.
    #[prost(string, repeated, tag = "11")]
    pub mount_options: Vec<String>,
}

/// All of an image at a path of the container.
pub fn image_mount(image: &str, container_path: &str) -> ImageMount {
    let image = Some(ImageSpec { image: image.to_owned(), ..Default::default() });
    ImageMount { image, container_path: container_path.to_owned(), ..ImageMount::default() }
}

impl ImageMount {
    /// A part of the image only.
    pub fn sub_path(self, path: &str) -> Self {
        Self { image_sub_path: path.to_owned(), ..self }
    }

    /// With an option of the mount.
    pub fn option(mut self, option: &str) -> Self {
        self.mount_options.push(option.to_owned());
        self
    }
}

#[derive(Clone, PartialEq, Message)]
struct Newer {
    #[prost(message, optional, tag = "2")]
    config: Option<NewerConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct NewerConfig {
    #[prost(message, repeated, tag = "7")]
    mounts: Vec<ImageMount>,
}

impl Client {
    /// `CreateContainer` with mounts of images.
    pub(super) async fn create_with_images(
        &self,
        request: &CreateContainerRequest,
        mounts: Vec<ImageMount>,
    ) -> Result<CreateContainerResponse, Status> {
        let mut bytes = request.encode_to_vec();
        bytes.extend(Newer { config: Some(NewerConfig { mounts }) }.encode_to_vec());
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static("/runtime.v1.RuntimeService/CreateContainer");
        let answer = client.unary(tonic::Request::new(bytes), path, AsWritten).await?;
        Ok(answer.into_inner())
    }
}

/// Sends bytes as they are.
struct AsWritten;

impl Codec for AsWritten {
    type Encode = Vec<u8>;
    type Decode = CreateContainerResponse;
    type Encoder = Self;
    type Decoder = ProstDecoder<CreateContainerResponse>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<CreateContainerRequest, CreateContainerResponse>::default().decoder()
    }
}

impl Encoder for AsWritten {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&bytes);
        Ok(())
    }
}
