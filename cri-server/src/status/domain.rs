//! The errors of the libraries, as gRPC codes.

use std::io;

use berth_sandbox::network;
use tonic::Code;

use super::Classify;

impl Classify for berth_imageservice::Error {
    fn code(&self) -> Code {
        match self {
            Self::InvalidReference { .. }
            | Self::InvalidKey { .. }
            | Self::InvalidCredentials { .. }
            | Self::AmbiguousId { .. }
            | Self::InvalidArchive { .. }
            | Self::BadSubPath { .. }
            | Self::BadUser { .. } => Code::InvalidArgument,
            Self::ImageNotFound { .. } | Self::ImageDamaged { .. } | Self::NotInRegistry { .. } => {
                Code::NotFound
            }
            // The only code behind which the kubelet looks for the reason in the message.
            Self::Untrusted { .. } => Code::Unknown,
            Self::Unauthorized { .. } => Code::Unauthenticated,
            Self::Forbidden { .. } | Self::Blocked { .. } => Code::PermissionDenied,
            Self::Unavailable { .. } => Code::Unavailable,
            // The operator has to say whom to trust.
            Self::InvalidHosts { .. } | Self::Insecure { .. } => Code::FailedPrecondition,
            Self::BadAnswer { .. }
            | Self::DigestMismatch { .. }
            | Self::SizeMismatch { .. }
            | Self::InvalidManifest { .. }
            | Self::HostileLayer { .. }
            | Self::CorruptLayer { .. } => Code::DataLoss,
            Self::Unsupported { .. } => Code::FailedPrecondition,
            Self::TooLarge { .. } | Self::NoSpace { .. } => Code::ResourceExhausted,
            Self::InUse { .. } | Self::RootBusy { .. } => Code::FailedPrecondition,
            Self::Timeout { .. } => Code::DeadlineExceeded,
            Self::Cancelled { .. } => Code::Unavailable,
            Self::Storage { .. } => Code::Internal,
        }
    }
}

impl Classify for berth_runtime::Error {
    fn code(&self) -> Code {
        use berth_runtime::StartFault;
        match self {
            Self::NotFound(_) => Code::NotFound,
            Self::Exists(_) => Code::AlreadyExists,
            Self::WrongState { .. } => Code::FailedPrecondition,
            Self::Spec(_) => Code::InvalidArgument,
            Self::MissingController { .. } => Code::FailedPrecondition,
            Self::Limit(_) => Code::InvalidArgument,
            Self::Cgroup { source, .. } | Self::Storage { source, .. } => of_io(source),
            Self::Hook { .. } | Self::NetDevice { .. } => Code::FailedPrecondition,
            Self::Start(_) | Self::Foreign { .. } => match self.start_fault() {
                Some(StartFault::CommandNotFound) => Code::NotFound,
                Some(StartFault::CommandNotExecutable) => Code::PermissionDenied,
                Some(StartFault::WorkingDirectory) => Code::FailedPrecondition,
                Some(StartFault::Specification) => Code::InvalidArgument,
                Some(StartFault::Internal) | None => Code::Internal,
            },
            Self::Shim { .. } | Self::Systemd { .. } => Code::Unavailable,
            // Of the command line, which has no codes.
            Self::Criu { .. } => Code::Internal,
            Self::Deadline { .. } => Code::DeadlineExceeded,
            Self::Log { .. } => Code::InvalidArgument,
        }
    }
}

impl Classify for berth_sandbox::Error {
    fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NotFound,
            Self::Exists(_) => Code::AlreadyExists,
            Self::NotReady(_) => Code::FailedPrecondition,
            Self::Network { source, .. } => source.code(),
            Self::Runtime { source, .. } => source.code(),
            Self::Storage { source, .. } => of_io(source),
        }
    }
}

impl Classify for network::Error {
    fn code(&self) -> Code {
        match self {
            Self::NotReady { .. } => Code::Unavailable,
            Self::Argument { .. } => Code::InvalidArgument,
            Self::AlreadyAttached { .. } => Code::AlreadyExists,
            Self::Plugin { fault, .. } => of_plugin(fault),
            Self::Del { failures } => failures.first().map_or(Code::Internal, Self::code),
            Self::Cache { source, .. } | Self::Netlink { source, .. } => of_io(source),
        }
    }
}

fn of_plugin(fault: &network::Fault) -> Code {
    use network::Fault;
    match fault {
        Fault::Missing { .. } => Code::FailedPrecondition,
        Fault::TimedOut(_) => Code::DeadlineExceeded,
        Fault::Cancelled => Code::Unavailable,
        _ => Code::Internal,
    }
}

/// A full disk is the operator's to mend, and worth a code of its own.
fn of_io(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::ResourceExhausted,
        _ => Code::Internal,
    }
}
