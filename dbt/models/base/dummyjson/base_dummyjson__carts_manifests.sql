{{ config(pre_hook="{{ forget_quarantined('dummyjson.carts') }}") }}

{{ landed_manifests(source('dummyjson', 'carts')) }}
