{{ config(
    incremental_strategy='delete+insert',
    unique_key='_batch_id',
    pre_hook="{{ delete_batches_without_manifest(ref('base_dummyjson__users_manifests')) }}",
) }}

{{ loaded_batches(ref('base_dummyjson__users_manifests'), ref('base_dummyjson__users')) }}
