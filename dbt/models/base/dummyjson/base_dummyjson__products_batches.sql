{{ config(pre_hook="{{ forget_batches_without_manifest(ref('base_dummyjson__products_manifests')) }}") }}

{{ loaded_batches(ref('base_dummyjson__products_manifests'), ref('base_dummyjson__products')) }}
