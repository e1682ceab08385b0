"""The variables of programs that log in to a cluster or a registry.

``kubectl`` starts such a program if the kubeconfig file names one, Docker and Podman start one to
fetch an image, and ssh for a tunnel (``ProxyCommand``). Some of the variables are secrets, so
nothing else gets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "Amazon: aws eks get-token, docker-credential-ecr-login": (
        "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CA_BUNDLE", "AWS_EC2_METADATA_DISABLED", "AWS_STS_REGIONAL_ENDPOINTS",
        "AWS_ECR_DISABLE_CACHE",
    ),
    "Google: gke-gcloud-auth-plugin, docker-credential-gcloud": (
        "GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "CLOUDSDK_ACTIVE_CONFIG_NAME",
        "CLOUDSDK_CORE_ACCOUNT", "CLOUDSDK_CORE_PROJECT", "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE",
        "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", "CLOUDSDK_PYTHON", "USE_GKE_GCLOUD_AUTH_PLUGIN",
    ),
    "Microsoft: kubelogin, docker-credential-acr-env": (
        "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH",
        "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_AUTHORITY_HOST", "AZURE_CONFIG_DIR", "AAD_LOGIN_METHOD",
        "AAD_SERVICE_PRINCIPAL_CLIENT_ID", "AAD_SERVICE_PRINCIPAL_CLIENT_SECRET",
        "AAD_SERVICE_PRINCIPAL_CLIENT_CERTIFICATE",
        "AAD_SERVICE_PRINCIPAL_CLIENT_CERTIFICATE_PASSWORD",
    ),
}  # fmt: skip
"""By whose programs these are."""
_NAMES: Final = frozenset(name for names in VARIABLES.values() for name in names)


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What of ``environment`` the programs may need that log in."""
    return {name: value for name, value in environment.items() if name in _NAMES}
