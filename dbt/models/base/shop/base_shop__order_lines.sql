{{ config(pre_hook="{{ delete_batches_without_manifest(ref('base_shop__order_lines_manifests')) }}") }}

{{ landed_records(source('shop', 'order_lines'), ref('base_shop__order_lines_manifests')) }}
