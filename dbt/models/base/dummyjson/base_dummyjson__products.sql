{{ config(pre_hook="{{ delete_batches_without_manifest(ref('base_dummyjson__products_manifests')) }}") }}

{{ landed_records(source('dummyjson', 'products'), ref('base_dummyjson__products_manifests')) }}
