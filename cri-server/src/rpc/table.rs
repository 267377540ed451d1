//! The form of a service's table: which RPC is served by which function.
//!
//! A table becomes the implementation of the trait that is generated from the
//! proto, so the compiler names every RPC that is missing from it. Each RPC
//! that is served has a file of its own, named like it, with a function named
//! like it: `version::version(&node, call, request)`. `later` lists those that
//! this release does not serve; they answer UNIMPLEMENTED with their name.

macro_rules! service {
    (
        $trait:ident;
        unary { $($unary:ident $unary_fn:ident($unary_in:ty) -> $unary_out:ty;)* }
        streams { $($stream:ident $stream_fn:ident($stream_in:ty) -> $stream_out:ty as $item:ident;)* }
        later { $($later:ident $later_fn:ident($later_in:ty) -> $later_out:ty;)* }
        streams_later { $($far:ident $far_fn:ident($far_in:ty) -> $far_out:ty as $far_item:ident;)* }
    ) => {
        #[tonic::async_trait]
        impl $trait for $crate::node::Node {
            $(async fn $unary_fn(
                &self,
                request: tonic::Request<$unary_in>,
            ) -> Result<tonic::Response<$unary_out>, tonic::Status> {
                $crate::rpc::edge::answer(
                    &self.metrics,
                    stringify!($unary),
                    request,
                    |call, request| $unary_fn::$unary_fn(self, call, request),
                ).await
            })*

            $(type $item = tonic::codegen::BoxStream<$stream_out>;

            async fn $stream_fn(
                &self,
                request: tonic::Request<$stream_in>,
            ) -> Result<tonic::Response<Self::$item>, tonic::Status> {
                $crate::rpc::edge::answer(
                    &self.metrics,
                    stringify!($stream),
                    request,
                    |call, request| $stream_fn::$stream_fn(self, call, request),
                ).await
            })*

            $(async fn $later_fn(
                &self,
                request: tonic::Request<$later_in>,
            ) -> Result<tonic::Response<$later_out>, tonic::Status> {
                $crate::rpc::edge::answer(
                    &self.metrics,
                    stringify!($later),
                    request,
                    $crate::rpc::table::later,
                ).await
            })*

            $(type $far_item = tonic::codegen::BoxStream<$far_out>;

            async fn $far_fn(
                &self,
                request: tonic::Request<$far_in>,
            ) -> Result<tonic::Response<Self::$far_item>, tonic::Status> {
                $crate::rpc::edge::answer(
                    &self.metrics,
                    stringify!($far),
                    request,
                    $crate::rpc::table::later,
                ).await
            })*
        }
    };
}

pub(crate) use service;
use tonic::Status;

use super::edge::Call;
use crate::about;

/// The answer of an RPC that this release does not serve.
pub(crate) async fn later<Req, Res>(call: Call, _: Req) -> Result<Res, Status> {
    let message = format!("{} is not part of berth {}", call.method, about::VERSION);
    Err(Status::unimplemented(message))
}
