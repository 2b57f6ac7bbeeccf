{{- define "fieldline.labels" -}}
app.kubernetes.io/name: fieldline
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "fieldline.image" -}}
{{ .root.Values.image.repository }}/{{ .name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* What every pod of this chart may and may not do. */}}
{{- define "fieldline.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "fieldline.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "fieldline.token" -}}
{{ .root.Values.secrets.token | default (printf "%s-token" .root.Release.Name) }}
{{- end }}

{{- define "fieldline.mounts" -}}
- {name: config, mountPath: /etc/fieldline/config, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if .root.Values.secrets.certificates }}
- {name: certificates, mountPath: /etc/fieldline/certs, readOnly: true}
{{- end }}
{{- if and .volume .root.Values.volume.enabled }}
- {name: volume, mountPath: /var/lib/fieldline}
{{- end }}
{{- if .token }}
- {name: token, mountPath: /etc/fieldline/token, readOnly: true}
{{- end }}
{{- end }}

{{- define "fieldline.volumes" -}}
- name: config
  configMap: {name: {{ .root.Release.Name }}-config}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- with .root.Values.secrets.certificates }}
- name: certificates
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- if and .volume .root.Values.volume.enabled }}
- name: volume
  persistentVolumeClaim: {claimName: {{ .root.Release.Name }}-volume}
{{- end }}
{{- if .token }}
- name: token
  secret: {secretName: {{ include "fieldline.token" . }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{- define "fieldline.environment" -}}
env:
  - {name: CONFIG_FILE, value: /etc/fieldline/config/site.toml}
  # Inside the cluster the viewer is called by the name of its Service; a port-forward calls it localhost.
  - {name: VIEWER__LISTEN, value: "0.0.0.0:8080"}
  - {name: VIEWER__ALLOW_REMOTE, value: "true"}
  - {name: VIEWER__ALLOWED_HOSTS, value: "localhost,{{ .root.Release.Name }}-viewer"}
  - {name: DEPOT__LISTEN, value: "0.0.0.0:7443"}
{{- if .token }}
  - {name: VIEWER__TOKEN_FILE, value: /etc/fieldline/token/token}
{{- end }}
{{- with .root.Values.secrets.environment }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end }}
