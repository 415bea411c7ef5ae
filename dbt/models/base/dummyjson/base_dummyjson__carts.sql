{{ config(pre_hook="{{ delete_batches_without_manifest(ref('base_dummyjson__carts_manifests')) }}") }}

{{ landed_records(source('dummyjson', 'carts'), ref('base_dummyjson__carts_manifests')) }}
