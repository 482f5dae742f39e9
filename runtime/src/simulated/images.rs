//! Images on a simulated node: every name has one, and its id follows from its name.

use cri::images::image_loader_server::ImageLoader;
use cri::v1;
use cri::v1::image_service_server::ImageService;
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status};

use super::script;
use super::service::{MEMORY, Service, refused};
use crate::reference::Reference;

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let wanted = request.into_inner().filter.and_then(|f| f.image).filter(|spec| !spec.image.is_empty());
        let wanted = wanted.as_ref().map(|spec| image_of(Some(spec))).transpose()?;
        let state = self.lock();
        let images = state.images.values().filter(|i| wanted.as_ref().is_none_or(|w| w.id == i.id));
        Ok(Response::new(v1::ListImagesResponse { images: images.cloned().collect() }))
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Result<Response<v1::ImageStatusResponse>, Status> {
        let wanted = image_of(request.into_inner().image.as_ref())?;
        let image = self.lock().images.values().find(|i| i.id == wanted.id).cloned();
        Ok(Response::new(v1::ImageStatusResponse { image, info: Default::default() }))
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<v1::PullImageResponse>, Status> {
        let request = request.into_inner();
        let image = image_of(request.image.as_ref())?;
        let annotations = request.sandbox_config.map(|c| c.annotations).unwrap_or_default();
        let (delay, error) = script::pull(&annotations).map_err(refused)?;
        tokio::time::sleep(delay).await;
        if let Some(message) = error {
            return Err(Status::unknown(message));
        }
        let image_ref = image.id.clone();
        self.lock().images.insert(image.repo_tags.first().unwrap_or(&image.id).clone(), image);
        Ok(Response::new(v1::PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        let wanted = image_of(request.into_inner().image.as_ref())?;
        self.lock().images.retain(|_, image| image.id != wanted.id);
        Ok(Response::new(v1::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<v1::ImageFsInfoRequest>,
    ) -> Result<Response<v1::ImageFsInfoResponse>, Status> {
        let used = self.lock().images.values().map(|i| i.size).sum();
        Ok(Response::new(v1::ImageFsInfoResponse {
            image_filesystems: vec![v1::FilesystemUsage {
                timestamp: self.now(),
                fs_id: Some(v1::FilesystemIdentifier { mountpoint: "/simulated".to_owned() }),
                used_bytes: Some(v1::UInt64Value { value: used }),
                inodes_used: None,
            }],
            container_filesystems: Vec::new(),
        }))
    }
}

#[tonic::async_trait]
impl ImageLoader for Service {
    async fn load(&self, _: Request<cri::images::LoadRequest>) -> Result<Response<cri::images::LoadResponse>, Status> {
        Err(Status::failed_precondition(
            "this node is simulated: every image exists and none has contents, so there is nothing to load",
        ))
    }
}

/// Every image exists; its id follows from its name.
pub(super) fn image_of(spec: Option<&v1::ImageSpec>) -> Result<v1::Image, Status> {
    let given = spec.map_or("", |s| s.image.as_str());
    let digest = |text: &str| {
        let hash = Sha256::digest(text.as_bytes());
        format!("sha256:{}", hash.iter().map(|b| format!("{b:02x}")).collect::<String>())
    };
    let spec = |image: &str| v1::ImageSpec {
        image: image.to_owned(),
        annotations: [(crate::images::SOURCE.to_owned(), "registry".to_owned())].into(),
        ..Default::default()
    };
    if crate::reference::is_digest(given) {
        return Ok(v1::Image { id: given.to_owned(), size: MEMORY, spec: Some(spec(given)), ..Default::default() });
    }
    let reference = Reference::parse(given).map_err(|e| Status::invalid_argument(e.to_string()))?;
    let full = reference.to_string();
    let id = digest(&full);
    Ok(v1::Image {
        repo_digests: vec![reference.with_digest(&id)],
        id,
        size: MEMORY,
        spec: Some(spec(&full)),
        repo_tags: vec![full],
        ..Default::default()
    })
}
