//! The AppArmor profile of a container: it is loaded before anything of the container is made.

use berth_runtime::apparmor::{DEFAULT, UNCONFINED, is_enabled, is_loaded};
use tonic::Status;

use crate::api::runtime::CreateContainerRequest;
use crate::translate::security::{AppArmor, apparmor};

use super::Node;

impl Node {
    /// The profile that a container gets, which is loaded by then; none where there is no
    /// AppArmor.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a profile that the node does not have, `FAILED_PRECONDITION` if the
    /// default one is asked for and cannot be loaded.
    pub async fn apparmor_of(
        &self,
        request: &CreateContainerRequest,
    ) -> Result<Option<String>, Status> {
        let linux = request.config.as_ref().and_then(|config| config.linux.as_ref());
        let security = linux.and_then(|linux| linux.security_context.clone());
        match apparmor(&security.unwrap_or_default(), is_enabled())? {
            AppArmor::Off => Ok(None),
            AppArmor::Unconfined => Ok(Some(UNCONFINED.to_owned())),
            AppArmor::Profile { field, name } => match is_loaded(&name) {
                Ok(true) => Ok(Some(name)),
                Ok(false) => {
                    Err(Status::invalid_argument(format!("{field}: no such profile is loaded")))
                }
                Err(error) => Err(Status::failed_precondition(format!("{field}: {error}"))),
            },
            AppArmor::Default { asked } => match self.apparmor.provide().await {
                Ok(()) => Ok(Some(DEFAULT.to_owned())),
                Err(why) if asked => Err(Status::failed_precondition(why)),
                Err(why) => {
                    tracing::warn!("{why}: a container runs without it, ignoring");
                    Ok(None)
                }
            },
        }
    }
}
