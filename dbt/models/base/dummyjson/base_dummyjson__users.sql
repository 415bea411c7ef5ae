{{ config(pre_hook="{{ delete_batches_without_manifest(ref('base_dummyjson__users_manifests')) }}") }}

{{ landed_records(source('dummyjson', 'users'), ref('base_dummyjson__users_manifests')) }}
