{{ config(pre_hook="{{ delete_batches_without_manifest(ref('base_shop__orders_manifests')) }}") }}

{{ landed_records(source('shop', 'orders'), ref('base_shop__orders_manifests')) }}
