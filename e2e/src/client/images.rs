//! The image service.

use k8s_cri::v1::{
    AuthConfig, Image, ImageFilter, ImageFsInfoRequest, ImageFsInfoResponse, ImageSpec,
    ImageStatusRequest, ListImagesRequest, PullImageRequest, RemoveImageRequest,
};
use tonic::Status;

use super::Client;
use crate::registry::Login;

fn spec(reference: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: reference.to_owned(), ..Default::default() })
}

impl Client {
    /// `PullImage` without credentials; answers the image's reference.
    pub async fn pull(&self, reference: &str) -> Result<String, Status> {
        self.pull_with(reference, None).await
    }

    /// `PullImage` with a user's name and password.
    pub async fn pull_as(&self, reference: &str, login: Login) -> Result<String, Status> {
        let auth = AuthConfig {
            username: login.user.to_owned(),
            password: login.password.to_owned(),
            ..Default::default()
        };
        self.pull_with(reference, Some(auth)).await
    }

    /// `PullImage` with any credentials.
    pub async fn pull_with(
        &self,
        reference: &str,
        auth: Option<AuthConfig>,
    ) -> Result<String, Status> {
        let request = PullImageRequest { image: spec(reference), auth, sandbox_config: None };
        Ok(self.images().pull_image(request).await?.into_inner().image_ref)
    }

    /// `ImageStatus`; `None` if the daemon does not have it.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>, Status> {
        let request = ImageStatusRequest { image: spec(reference), verbose: false };
        Ok(self.images().image_status(request).await?.into_inner().image)
    }

    /// `ListImages`, all of them.
    pub async fn list_images(&self) -> Result<Vec<Image>, Status> {
        let request = ListImagesRequest { filter: None::<ImageFilter> };
        Ok(self.images().list_images(request).await?.into_inner().images)
    }

    /// `ListImages` of one name; empty if the daemon does not have it.
    pub async fn images_called(&self, reference: &str) -> Result<Vec<Image>, Status> {
        let filter = Some(ImageFilter { image: spec(reference) });
        Ok(self.images().list_images(ListImagesRequest { filter }).await?.into_inner().images)
    }

    /// `RemoveImage`.
    pub async fn remove_image(&self, reference: &str) -> Result<(), Status> {
        let request = RemoveImageRequest { image: spec(reference) };
        self.images().remove_image(request).await.map(drop)
    }

    /// `ImageFsInfo`.
    pub async fn image_fs_info(&self) -> Result<ImageFsInfoResponse, Status> {
        Ok(self.images().image_fs_info(ImageFsInfoRequest {}).await?.into_inner())
    }
}
