{{ config(
    incremental_strategy='delete+insert',
    unique_key='_batch_id',
    pre_hook="{{ delete_batches_without_manifest(ref('base_shop__order_lines_manifests')) }}",
) }}

{{ loaded_batches(ref('base_shop__order_lines_manifests'), ref('base_shop__order_lines')) }}
